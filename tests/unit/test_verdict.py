"""What becomes of a recipient after an attempt."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from postroom.delivery.verdict import Spoken, Verdicts
from postroom.storage.ledger import Result
from postroom.values.reply import Outcome, Reply
from postroom.values.states import Fault, OnDoubt, Phase, RecipientState
from tests.unit.claims import claim, stored_message

SPOKEN = Spoken(
    relay="main",
    at=datetime(2026, 5, 4, tzinfo=UTC),
    duration_s=0.1,
    transcript="<- 250",
    pause_s=7,
)


def verdict(outcome: Outcome, *, tries: int = 0, **message: Any) -> Result:
    verdicts = Verdicts(doubt_s=900, random=lambda: 0.5)
    return verdicts.result(claim(1, tries=tries), stored_message(**message), outcome, SPOKEN)


def deferred(fault: Fault, retry_after_s: float | None = None) -> Outcome:
    return Outcome(
        state=RecipientState.DEFERRED,
        fault=fault,
        retry_after_s=retry_after_s,
        reply=Reply(code=451, lines=("4.7.1 later",)),
        phase=Phase.RCPT,
    )


def test_the_default_schedule_begins_with_a_minute() -> None:
    result = verdict(deferred(Fault.RECIPIENT))
    assert (result.state, result.due_in_s, result.counts) == ("deferred", 60, True)


def test_a_delay_that_the_reply_names_is_waited_for_if_it_is_longer() -> None:
    assert verdict(deferred(Fault.RECIPIENT, retry_after_s=300)).due_in_s == 300
    assert verdict(deferred(Fault.RECIPIENT, retry_after_s=5)).due_in_s == 60


def test_a_messages_own_schedule_wins() -> None:
    assert verdict(deferred(Fault.RECIPIENT), retry_delays=(5.0,)).due_in_s == 5


def test_the_last_try_ends_in_rejected_with_the_last_reply() -> None:
    result = verdict(deferred(Fault.RECIPIENT), tries=1, retry_delays=(5.0,))
    assert (result.state, result.due_in_s) == ("rejected", None)
    assert result.reply == "gave up after 2 tries; last: 451 4.7.1 later"


@pytest.mark.parametrize("fault", [Fault.RELAY, Fault.CREDENTIALS, Fault.OURSELVES])
def test_what_is_not_the_recipients_fault_waits_as_long_as_the_relay_rests(fault: Fault) -> None:
    result = verdict(deferred(fault), tries=99, retry_delays=())
    assert (result.state, result.counts) == ("deferred", False)
    assert result.due_in_s == pytest.approx(7, rel=0.2)


def test_doubt_is_resent_later_or_held() -> None:
    doubt = Outcome(state=RecipientState.IN_DOUBT, fault=Fault.RELAY, phase=Phase.DOT)
    assert verdict(doubt).due_in_s == 900
    held = verdict(doubt, on_doubt=OnDoubt.HOLD)
    assert (held.state, held.due_in_s) == ("in_doubt", None)


def test_only_what_failed_keeps_its_transcript() -> None:
    fine = Outcome(state=RecipientState.ACCEPTED, reply=Reply(code=250), phase=Phase.DOT)
    assert verdict(fine).transcript is None
    assert verdict(deferred(Fault.RECIPIENT)).transcript == "<- 250"


def test_a_reply_of_any_length_is_kept_within_bounds() -> None:
    reply = Reply(code=550, lines=("5.7.1 " + "no " * 5000,))
    result = verdict(
        Outcome(state=RecipientState.REJECTED, fault=Fault.MESSAGE, reply=reply, phase=Phase.DOT)
    )
    assert result.reply is not None
    assert len(result.reply) == 2000
