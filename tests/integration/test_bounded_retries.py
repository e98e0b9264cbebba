"""Nothing is sent or tried again without bound, whoever is at fault."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session

from postroom import Fault, Message, Outbox, Phase, Receipt, RecipientState, WorkerConfig
from postroom.storage.tables import Tables
from postroom.testing import FaultyRelay, Misbehavior

ADA, BOB = "ada@example.com", "bob@example.com"


@pytest.fixture
def outbox(engine: Engine, relay: FaultyRelay) -> Iterator[Outbox]:
    outbox = Outbox(
        f"{relay.url}&connections=1",
        engine=engine,
        sender="shop@example.com",
        worker=WorkerConfig(poll_interval_s=0.02, in_doubt_retry_s=0.02, max_resends=2),
    )
    yield outbox
    outbox.close()


def enqueue(outbox: Outbox, *to: str, **message: Any) -> Receipt:
    with Session(outbox.engine) as session, session.begin():
        return outbox.enqueue(session, Message(text="x", **message), to=to)


def recipients(outbox: Outbox, receipt: Receipt) -> dict[str, Any]:
    with Session(outbox.engine) as session:
        return {one.address: one for one in outbox.status(session, receipt).recipients}


def attempts(outbox: Outbox, receipt: Receipt) -> list[datetime]:
    with Session(outbox.engine) as session:
        return [one.attempted_at for one in outbox.attempts(session, receipt)]


def test_what_is_in_doubt_again_and_again_is_held_for_a_person(
    outbox: Outbox, relay: FaultyRelay
) -> None:
    relay.on(Phase.DOT, Misbehavior.CLOSE, address=ADA, after_accepting=True)
    receipt = enqueue(outbox, ADA, BOB)
    outbox.worker().run(until_empty=True)
    found = recipients(outbox, receipt)
    assert (found[ADA].state, found[BOB].state) == ("in_doubt", "accepted")
    assert sum(ADA in mail.recipients for mail in relay.accepted) == 3
    assert found[ADA].reply.startswith("in doubt 3 times, and not sent again by itself")
    with Session(outbox.engine) as session, session.begin():
        [why] = [one.why for one in outbox.explain(session, receipt) if one.address == ADA]
        assert "held until somebody decides" in why
        assert outbox.resolve(session, receipt, sent=True) == (ADA,)
    assert recipients(outbox, receipt)[ADA].state == RecipientState.ACCEPTED


def test_doubts_do_not_use_up_the_tries_of_a_recipient(outbox: Outbox, relay: FaultyRelay) -> None:
    relay.on(Phase.DOT, Misbehavior.CLOSE, times=2)
    relay.on(Phase.RCPT, "451 4.7.1 greylisted", times=3)
    receipt = enqueue(outbox, ADA, retry_delays_s=[0.02, 0.02, 0.02])
    outbox.worker().run(until_empty=True)
    assert recipients(outbox, receipt)[ADA].state == RecipientState.ACCEPTED


@pytest.mark.parametrize("phase", [Phase.RCPT, Phase.DATA])
def test_a_relay_that_hangs_up_on_one_mail_is_asked_ever_more_rarely_and_then_not_any_more(
    outbox: Outbox, relay: FaultyRelay, tables: Tables, phase: Phase
) -> None:
    address = ADA if phase is Phase.RCPT else None
    relay.on(phase, Misbehavior.CLOSE, address=address, times=None if address else 1)
    receipt = enqueue(outbox, ADA, retry_delays_s=[])
    with Session(outbox.engine) as session, session.begin():
        session.execute(update(tables.recipient).values(attempt_count=5))
    others = enqueue(outbox, BOB)
    outbox.worker().run(until_empty=True)
    ada = recipients(outbox, receipt)[ADA]
    assert (ada.state, ada.fault) == (RecipientState.REJECTED, Fault.RELAY)
    assert ada.reply.startswith("gave up after 6 tries; last: ")
    assert recipients(outbox, others)[BOB].state == RecipientState.ACCEPTED


def test_a_relay_that_hangs_up_again_and_again_is_let_alone(
    outbox: Outbox, relay: FaultyRelay
) -> None:
    relay.on(Phase.RCPT, Misbehavior.CLOSE, address=ADA)
    stuck = enqueue(outbox, ADA)
    numbers = itertools.count(1)
    with outbox.running():
        # Other mail flows all the time, so that the relay never rests.
        while len(attempts(outbox, stuck)) < 3:
            number = next(numbers)
            enqueue(outbox, f"r{number}@example.com")
            relay.wait_for(number)
    _, second, third = attempts(outbox, stuck)
    assert (third - second).total_seconds() >= 2
    assert recipients(outbox, stuck)[ADA].state == RecipientState.DEFERRED
