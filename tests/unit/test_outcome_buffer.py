"""The gate before the final dot."""

from __future__ import annotations

import threading

import pytest

from postroom.delivery.claims import ClaimBatch
from postroom.delivery.outcome_buffer import CommitGate
from postroom.errors import LeaseLost
from tests.clock import Clock
from tests.unit.claims import claim

CLAIMS = (claim(1), claim(2))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def batch(clock: Clock, lease_s: float = 60) -> ClaimBatch:
    return ClaimBatch(CLAIMS, lease_token=1, lease_s=lease_s, claimed_at=clock.now)


def test_a_mail_passes_while_few_outcomes_wait_for_their_commit(clock: Clock) -> None:
    gate = CommitGate(max_uncommitted=2, clock=clock)
    gate.acquire(batch(clock), CLAIMS)


def test_nothing_passes_with_less_than_half_of_the_lease_left(clock: Clock) -> None:
    gate = CommitGate(max_uncommitted=2, clock=clock)
    held = batch(clock, lease_s=60)
    clock.now += 31
    with pytest.raises(LeaseLost):
        gate.acquire(held, CLAIMS)


def test_a_renewed_lease_opens_the_gate_again(clock: Clock) -> None:
    gate = CommitGate(max_uncommitted=2, clock=clock)
    held = batch(clock, lease_s=60)
    clock.now += 31
    held.extended(clock.now)
    gate.acquire(held, CLAIMS)


def test_a_claim_that_was_lost_does_not_pass(clock: Clock) -> None:
    gate = CommitGate(max_uncommitted=2, clock=clock)
    held = batch(clock)
    held.remove(CLAIMS[1])
    gate.acquire(held, CLAIMS[:1])
    with pytest.raises(LeaseLost):
        gate.acquire(held, CLAIMS)


def test_the_next_mail_waits_until_outcomes_are_committed(clock: Clock) -> None:
    gate = CommitGate(max_uncommitted=2, clock=clock)
    held = batch(clock)
    gate.acquire(held, CLAIMS)
    passed = threading.Event()

    def enter() -> None:
        gate.acquire(held, CLAIMS[:1])
        passed.set()

    waiting = threading.Thread(target=enter)
    waiting.start()
    assert not passed.wait(0.05)
    gate.release(2)
    assert passed.wait(5)
    waiting.join()


def test_a_mail_with_more_recipients_than_the_bound_passes_alone(clock: Clock) -> None:
    gate = CommitGate(max_uncommitted=1, clock=clock)
    gate.acquire(batch(clock), CLAIMS)


def test_a_failed_commit_closes_the_gate_until_one_succeeds(clock: Clock) -> None:
    gate = CommitGate(max_uncommitted=200, clock=clock)
    held = batch(clock, lease_s=0.02)
    gate.close()
    with pytest.raises(LeaseLost):
        clock_runs(gate, held, clock)
    gate.release(0)
    gate.acquire(batch(clock), CLAIMS)


def clock_runs(gate: CommitGate, held: ClaimBatch, clock: Clock) -> None:
    """Enter while the local clock moves past the lease."""
    clock.now += 0.02
    gate.acquire(held, CLAIMS)
