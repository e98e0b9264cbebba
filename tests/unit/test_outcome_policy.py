"""What becomes of a recipient after an attempt."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from postroom.delivery.outcomes import OutcomePolicy, attempt_record
from postroom.smtp.reply import Outcome, Reply
from postroom.states import Fault, OnDoubt, Phase, RecipientState
from postroom.storage.queue.records import OutcomeRecord
from tests.unit.claims import claim, stored_message


def decided(
    outcome: Outcome,
    *,
    tries: int = 0,
    attempts: int = 0,
    in_doubt: int = 0,
    pause_s: float = 7,
    is_paused: bool = False,
    **message: Any,
) -> OutcomeRecord:
    """Return what the policy makes of an attempt."""
    policy = OutcomePolicy(in_doubt_retry_s=900, random=lambda: 0.5)
    record = attempt_record(
        claim(1, try_count=tries, attempt_count=attempts, in_doubt_count=in_doubt),
        outcome,
        attempted_at=datetime(2026, 5, 4, tzinfo=UTC),
        relay="main",
        duration_s=0.1,
        transcript="<- 250",
    )
    policy.apply(
        record,
        stored_message(**message),
        outcome,
        is_paused=pause_s > 0 or is_paused,
        route_retry_after_s=pause_s,
    )
    return record


def deferred(fault: Fault, retry_after_s: float | None = None) -> Outcome:
    return Outcome(
        state=RecipientState.DEFERRED,
        fault=fault,
        retry_after_s=retry_after_s,
        reply=Reply(code=451, lines=("4.7.1 later",)),
        phase=Phase.RCPT,
    )


def test_the_default_schedule_begins_with_a_minute() -> None:
    result = decided(deferred(Fault.RECIPIENT))
    assert (result.state, result.due_in_s, result.counts_as_try) == ("deferred", 60, True)


def test_a_delay_that_the_reply_names_is_waited_for_if_it_is_longer() -> None:
    assert decided(deferred(Fault.RECIPIENT, retry_after_s=300)).due_in_s == 300
    assert decided(deferred(Fault.RECIPIENT, retry_after_s=5)).due_in_s == 60


def test_a_messages_own_schedule_wins() -> None:
    assert decided(deferred(Fault.RECIPIENT), retry_delays_s=(5.0,)).due_in_s == 5


def test_the_last_try_ends_in_rejected_with_the_last_reply() -> None:
    result = decided(deferred(Fault.RECIPIENT), tries=1, retry_delays_s=(5.0,))
    assert (result.state, result.due_in_s) == ("rejected", None)
    assert result.reply == "gave up after 2 tries; last: 451 4.7.1 later"


@pytest.mark.parametrize("fault", [Fault.RELAY, Fault.CREDENTIALS, Fault.OURSELVES])
def test_what_is_not_the_recipients_fault_waits_as_long_as_the_relay_rests(fault: Fault) -> None:
    result = decided(deferred(fault), tries=99, retry_delays_s=())
    assert (result.state, result.counts_as_try) == ("deferred", False)
    assert result.due_in_s == pytest.approx(7, rel=0.2)


@pytest.mark.parametrize("fault", [Fault.RELAY, Fault.CREDENTIALS, Fault.OURSELVES])
def test_a_fault_that_stays_with_one_recipient_is_tried_ever_later(fault: Fault) -> None:
    waits = [decided(deferred(fault), attempts=n, pause_s=0).due_in_s for n in range(5)]
    assert waits == pytest.approx([1, 2, 4, 8, 16], rel=0.2)


def test_while_the_relay_rests_a_recipient_waits_for_it_and_hardly_longer() -> None:
    assert decided(deferred(Fault.RELAY), attempts=50, pause_s=2).due_in_s <= 72
    long_rest = decided(deferred(Fault.RELAY), attempts=50, pause_s=300)
    assert (long_rest.state, long_rest.counts_as_try) == ("deferred", False)
    assert 300 <= long_rest.due_in_s <= 360


def test_where_another_relay_of_the_route_may_take_it_a_recipient_hardly_waits() -> None:
    result = decided(deferred(Fault.RELAY), attempts=50, pause_s=0, is_paused=True)
    assert (result.state, result.counts_as_try) == ("deferred", False)
    assert result.due_in_s == pytest.approx(1, rel=0.2)


def test_a_fault_that_stays_with_one_recipient_counts_from_the_sixth_attempt_on() -> None:
    assert not decided(deferred(Fault.RELAY), attempts=4, pause_s=0).counts_as_try
    fifth = decided(deferred(Fault.RELAY), attempts=5, pause_s=0)
    assert (fifth.state, fifth.counts_as_try, fifth.due_in_s) == ("deferred", True, 60)
    last = decided(deferred(Fault.RELAY), attempts=9, tries=1, pause_s=0, retry_delays_s=(5.0,))
    assert last.state == "rejected"
    assert last.reply == "gave up after 10 tries; last: 451 4.7.1 later"


def test_doubt_is_resent_ever_later_and_then_held_for_a_person() -> None:
    text = Reply(code=0, lines=("the relay closed the connection",))
    doubt = Outcome(state=RecipientState.IN_DOUBT, reply=text, phase=Phase.DOT)
    waits = [decided(doubt, in_doubt=n).due_in_s for n in range(5)]
    assert waits == [900, 1800, 3600, 7200, 14400]
    held = decided(doubt, in_doubt=5)
    assert (held.state, held.due_in_s) == ("in_doubt", None)
    assert held.reply is not None
    assert held.reply.startswith("in doubt 6 times, and not sent again by itself")


def test_doubt_is_resent_later_or_held() -> None:
    doubt = Outcome(state=RecipientState.IN_DOUBT, fault=Fault.RELAY, phase=Phase.DOT)
    assert decided(doubt).due_in_s == 900
    held = decided(doubt, on_doubt=OnDoubt.HOLD)
    assert (held.state, held.due_in_s) == ("in_doubt", None)


def test_only_what_failed_keeps_its_transcript() -> None:
    fine = Outcome(state=RecipientState.ACCEPTED, reply=Reply(code=250), phase=Phase.DOT)
    assert decided(fine).transcript is None
    assert decided(deferred(Fault.RECIPIENT)).transcript == "<- 250"
