"""The coordinator, a turn at a time, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError

from postroom.clock import Clock
from postroom.delivery.claims import ClaimBatch
from postroom.delivery.composer import MessageComposer
from postroom.delivery.config import WorkerConfig
from postroom.delivery.coordinator import Coordinator, CoordinatorDeps, StopWhen
from postroom.delivery.dispatcher import Dispatcher
from postroom.delivery.outcome_buffer import CommitGate, OutcomeBuffer
from postroom.delivery.outcomes import without_attempt
from postroom.delivery.unit_of_work import Committed, DeliveryStore, UnitOfWork
from postroom.states import RecipientState
from postroom.storage.engine import read_transaction
from postroom.storage.queue.records import Claim, OutcomeRecord
from postroom.storage.tables import Tables
from postroom.storage.workers import WorkerIdentity
from tests.integration.mailroom import Mailroom

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


class Sent:
    """A dispatcher that keeps what it was given."""

    def __init__(self) -> None:
        self.batches: list[ClaimBatch] = []
        self.claims: list[Claim] = []

    def dispatch(
        self, claims: Sequence[Claim], messages: Mapping[int, MessageComposer], batch: ClaimBatch
    ) -> list[OutcomeRecord]:
        self.claims.extend(claims)
        self.batches.append(batch)
        return []

    def is_paused(self) -> bool:
        return False


class Store(DeliveryStore):
    """A database of which a test can take the next commits away."""

    failures = 0

    def commit(self, work: UnitOfWork) -> Committed:
        if self.failures:
            self.failures -= 1
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))
        return super().commit(work)


class Turns:
    """A coordinator whose turns are taken by the test."""

    def __init__(self, engine: Engine, tables: Tables) -> None:
        self.now = 1000.0
        self.tables = tables
        self.engine = engine
        self.buffer = OutcomeBuffer()
        self.gate = CommitGate(max_uncommitted=1, clock=self._monotonic)
        self.sent = Sent()
        identity = WorkerIdentity(id="w", host="h", pid=1, version="1", started_at=NOON)
        self.store = Store(engine, tables, identity)
        self.coordinator = Coordinator(
            CoordinatorDeps(
                store=self.store,
                buffer=self.buffer,
                gate=self.gate,
                dispatcher=cast(Dispatcher, self.sent),
                config=WorkerConfig(lease_s=60, poll_interval_s=5),
                new_lease_token=lambda: int(self.now),
                clock=Clock(monotonic=self._monotonic, utc_now=self._utc_now),
            ),
            StopWhen.TOLD,
        )

    def _monotonic(self) -> float:
        return self.now

    def _utc_now(self) -> datetime:
        return NOON + timedelta(seconds=self.now - 1000)

    def take(self, after_s: float = 0.0) -> list[str]:
        """Take a turn, ``after_s`` later; return the addresses that it dispatched."""
        self.now += after_s
        before = len(self.sent.claims)
        self.coordinator.run_once()
        return [claim.address for claim in self.sent.claims[before:]]

    def rows(self, table: str) -> list[Any]:
        with read_transaction(self.engine) as connection:
            return list(connection.execute(select(getattr(self.tables, table))))


@pytest.fixture
def mailroom(worker_engine: Engine, tables: Tables) -> Mailroom:
    return Mailroom(worker_engine, tables)


@pytest.fixture
def turns(worker_engine: Engine, tables: Tables) -> Iterator[Turns]:
    turns = Turns(worker_engine, tables)
    yield turns
    turns.store.disconnect()


def test_the_first_turn_claims_what_is_due(turns: Turns, mailroom: Mailroom) -> None:
    mailroom.enqueue("ada@example.com")
    assert turns.take() == ["ada@example.com"]


def test_between_two_polls_only_a_wakeup_has_it_look(turns: Turns, mailroom: Mailroom) -> None:
    turns.take()
    mailroom.enqueue("ada@example.com")
    assert turns.take(after_s=4) == []
    turns.coordinator.wake()
    assert turns.take() == ["ada@example.com"]
    mailroom.enqueue("bob@example.com")
    assert turns.take(after_s=6) == ["bob@example.com"]


def test_a_lease_is_extended_after_a_third_of_it(turns: Turns, mailroom: Mailroom) -> None:
    mailroom.enqueue("ada@example.com")
    turns.take()
    [batch] = turns.sent.batches
    deadline = batch.send_deadline
    turns.take(after_s=19)
    assert batch.send_deadline == deadline
    turns.take(after_s=2)
    assert batch.send_deadline == deadline + 21


def test_it_is_seen_every_ten_seconds(turns: Turns) -> None:
    for after_s, seen_s in [(0, 0), (9, 0), (2, 11), (9, 11), (2, 22)]:
        turns.take(after_s=after_s)
        [worker] = turns.rows("worker")
        assert worker.last_seen_at == NOON + timedelta(seconds=seen_s)


def test_what_could_not_be_committed_is_written_by_the_next_turn(
    turns: Turns, mailroom: Mailroom
) -> None:
    mailroom.enqueue("ada@example.com")
    turns.take()
    claims = tuple(turns.sent.claims)
    turns.gate.acquire(turns.sent.batches[0], claims)
    turns.buffer.add(
        [without_attempt(one, RecipientState.ACCEPTED, "250 ok", at=NOON) for one in claims],
        admitted=1,
    )
    turns.store.failures = 2
    for _ in range(2):
        turns.take()
        assert [one.state for one in turns.rows("recipient")] == ["queued"]
    turns.take()
    assert [one.state for one in turns.rows("recipient")] == ["accepted"]
    assert turns.rows("queue") == []
    # Counted out: one more may pass, which is all that this gate lets through.
    mailroom.enqueue("bob@example.com")
    turns.coordinator.wake()
    turns.take()
    turns.gate.acquire(turns.sent.batches[-1], tuple(turns.sent.claims[1:]))


def test_claims_that_were_given_back_are_due_again_at_once(
    turns: Turns, mailroom: Mailroom
) -> None:
    mailroom.enqueue("ada@example.com")
    turns.take()
    turns.buffer.release(turns.sent.claims)
    turns.take()
    turns.coordinator.wake()
    assert turns.take() == ["ada@example.com"]


def test_claims_that_were_abandoned_wait_for_their_lease(turns: Turns, mailroom: Mailroom) -> None:
    mailroom.enqueue("ada@example.com")
    turns.take()
    turns.buffer.abandon(turns.sent.claims)
    turns.take(after_s=25)
    [row] = turns.rows("queue")
    assert row.lease_token == 1000
    turns.coordinator.wake()
    assert turns.take() == []
