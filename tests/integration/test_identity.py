"""Ids that begin again: what a worker has in hand is never taken for what has the id now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, delete, inspect, text, update
from sqlalchemy.orm import Session

from postroom import Message, Outbox, Phase, Receipt, RecipientState, WorkerConfig
from postroom.storage.engine import write_transaction
from postroom.storage.queue.records import Claim, OutcomeRecord
from postroom.storage.tables import Tables
from postroom.testing.faulty_relay import FaultyRelay, Misbehavior
from tests.integration.mailroom import Mailroom
from tests.services.waiting import wait_for

ADA, BOB = "ada@example.com", "bob@example.com"
QUICK = WorkerConfig(poll_interval_s=0.05, lease_s=30, shutdown_grace_s=10)
OF_A_MESSAGE = ("queue", "attempt", "recipient", "message")


def empty(engine: Engine, tables: Tables, *names: str) -> None:
    """Delete every row of tables and let their ids begin again, as a person would do it."""
    with write_transaction(engine) as connection:
        if engine.dialect.name == "postgresql":
            all_of_them = ", ".join(getattr(tables, name).name for name in names)
            connection.execute(text(f"TRUNCATE {all_of_them} RESTART IDENTITY CASCADE"))
            return
        for name in names:
            connection.execute(delete(getattr(tables, name)))
        if inspect(connection).has_table("sqlite_sequence"):
            connection.execute(text("DELETE FROM sqlite_sequence"))


@pytest.fixture
def outbox(engine: Engine, relay: FaultyRelay) -> Iterator[Outbox]:
    outbox = Outbox(
        f"{relay.url}&connections=1", engine=engine, sender="shop@example.com", worker=QUICK
    )
    yield outbox
    outbox.close()


@pytest.fixture
def mailroom(worker_engine: Engine, tables: Tables) -> Mailroom:
    return Mailroom(worker_engine, tables)


def enqueue(outbox: Outbox, engine: Engine, to: str, secret: str) -> Receipt:
    with Session(engine) as session, session.begin():
        return outbox.enqueue(session, Message(subject=secret, text=f"{secret}\n"), to=[to])


def state(outbox: Outbox, engine: Engine, receipt: Receipt) -> RecipientState:
    with Session(engine) as session:
        return outbox.status(session, receipt).state


def test_a_mail_after_prune_is_not_the_one_before_it(
    outbox: Outbox, engine: Engine, relay: FaultyRelay
) -> None:
    with outbox.running():
        first = enqueue(outbox, engine, ADA, "secret of Ada")
        wait_for(lambda: state(outbox, engine, first) == "accepted", "the first to be recorded")
        assert outbox.prune(timedelta(0)).messages == 1
        second = enqueue(outbox, engine, BOB, "secret of Bob")
        relay.wait_for(2)
    assert second.message_id != first.message_id
    to_bob = next(mail for mail in relay.accepted if mail.recipients == (BOB,))
    assert b"secret of Bob" in to_bob.content
    assert b"Ada" not in to_bob.content


def test_a_recipient_after_prune_has_an_id_of_its_own(mailroom: Mailroom, outbox: Outbox) -> None:
    seen: set[int] = set()
    for _ in range(3):
        message_id = mailroom.enqueue(ADA, BOB)
        ids = {one.id for one in mailroom.status(message_id).recipients}
        assert ids.isdisjoint(seen)
        seen |= ids
        mailroom.bring_to(message_id, RecipientState.ACCEPTED)
        outbox.prune(timedelta(0))


def test_a_worker_notices_that_another_message_has_the_id_of_one_it_knows(
    outbox: Outbox, engine: Engine, tables: Tables, relay: FaultyRelay
) -> None:
    with outbox.running():
        first = enqueue(outbox, engine, ADA, "secret of Ada")
        wait_for(lambda: state(outbox, engine, first) == "accepted", "the first to be recorded")
        empty(engine, tables, *OF_A_MESSAGE)
        second = enqueue(outbox, engine, BOB, "secret of Bob")
        relay.wait_for(2)
    assert second.message_id == first.message_id
    to_bob = next(mail for mail in relay.accepted if mail.recipients == (BOB,))
    assert b"secret of Bob" in to_bob.content
    assert b"Ada" not in to_bob.content


def test_what_came_of_a_mail_that_is_gone_is_not_written_to_the_one_that_has_its_id(
    outbox: Outbox, engine: Engine, tables: Tables, relay: FaultyRelay
) -> None:
    relay.on(Phase.DOT, Misbehavior.STALL, after_accepting=True, times=1)
    worker = outbox.worker()
    worker.start()
    enqueue(outbox, engine, ADA, "secret of Ada")
    relay.wait_for(1)
    empty(engine, tables, *OF_A_MESSAGE)
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    with Session(engine) as session, session.begin():
        waiting = Message(subject="secret of Bob", text="x", scheduled_at=tomorrow)
        second = outbox.enqueue(session, waiting, to=[BOB])
    relay.stop()
    worker.stop()
    assert worker.join()
    with Session(engine) as session:
        [bob] = outbox.status(session, second).recipients
        assert (bob.state, bob.attempt_count, bob.reply) == ("queued", 0, None)
        assert list(outbox.attempts(session, second)) == []


class Swapped:
    """One recipient claimed by a worker, and another one that has come to have all its ids."""

    def __init__(self, mailroom: Mailroom, *emptied: str) -> None:
        self.mailroom = mailroom
        mailroom.enqueue(ADA)
        [self.claim] = mailroom.claim(token=7)
        empty(mailroom.engine, mailroom.tables, *emptied)
        self.message_id = mailroom.enqueue(BOB)

    def record(self, state: RecipientState, claim: Claim | None = None, **columns: Any) -> None:
        self.mailroom.record(claim or self.claim, state, **columns)


@pytest.mark.parametrize(
    ("state", "columns"),
    [
        (RecipientState.ACCEPTED, {}),
        (RecipientState.REJECTED, {}),
        (RecipientState.DEFERRED, {"due_in_s": 60.0}),
    ],
)
@pytest.mark.parametrize("emptied", [OF_A_MESSAGE, OF_A_MESSAGE[:3]], ids=["all", "recipients"])
def test_a_late_outcome_meets_nobody_else(
    mailroom: Mailroom, emptied: tuple[str, ...], state: RecipientState, columns: dict[str, Any]
) -> None:
    """Whether everything was emptied, or the recipients alone, whose messages stay."""
    swapped = Swapped(mailroom, *emptied)
    bob = mailroom.only(swapped.message_id)
    assert bob.id == swapped.claim.recipient_id
    swapped.record(state, **columns)
    assert mailroom.only(swapped.message_id) == bob
    assert mailroom.count("attempt") == 0
    [claim] = mailroom.claim(token=8)
    assert claim.address == BOB


def test_nothing_else_of_a_claim_holds_for_who_has_its_id(mailroom: Mailroom) -> None:
    swapped = Swapped(mailroom, *OF_A_MESSAGE)
    [bobs] = mailroom.claim(token=8)
    assert bobs.recipient_id == swapped.claim.recipient_id
    with write_transaction(mailroom.engine) as connection:
        mailroom.queue_store.release(connection, [swapped.claim])
        assert mailroom.queue_store.renew(connection, [swapped.claim], 60) == set()
        assert mailroom.queue_store.mark_intent(connection, [swapped.claim]) == set()
    assert mailroom.claim(token=9) == []
    mailroom.record(bobs, RecipientState.ACCEPTED)
    assert mailroom.states(swapped.message_id) == {BOB: "accepted"}


def test_of_outcomes_that_share_a_commit_only_the_strangers_are_left_out(
    mailroom: Mailroom,
) -> None:
    swapped = Swapped(mailroom, *OF_A_MESSAGE)
    other = mailroom.enqueue("eve@example.com")
    claims = mailroom.claim(token=8)
    now = datetime.now(UTC)
    results = [
        OutcomeRecord(
            claim=claim, state=RecipientState.REJECTED, attempted_at=now, relay="main", reply=reply
        )
        for claim, reply in [
            (swapped.claim, "550 no such Ada"),
            *((claim, "550 no") for claim in claims),
        ]
    ]
    with write_transaction(mailroom.engine) as connection:
        mailroom.queue_store.record(connection, results)
    assert mailroom.only(swapped.message_id).reply == "550 no"
    assert mailroom.only(other).reply == "550 no"
    assert mailroom.count("attempt") == 2


def test_accepted_wins_of_the_message_that_was_claimed_whoever_holds_it(
    mailroom: Mailroom, tables: Tables
) -> None:
    """A backup that was made before the claim knows the message, and not the lease."""
    message_id = mailroom.enqueue(ADA)
    [claim] = mailroom.claim(token=7)
    with write_transaction(mailroom.engine) as connection:
        connection.execute(update(tables.queue).values(lease_token=None, claim_count=0))
    mailroom.record(claim, RecipientState.ACCEPTED)
    assert mailroom.states(message_id) == {ADA: "accepted"}
    assert mailroom.count("queue") == 0
    assert mailroom.count("attempt") == 1


def test_what_comes_of_a_pruned_mail_leaves_nothing_behind(
    mailroom: Mailroom, outbox: Outbox
) -> None:
    message_id = mailroom.enqueue(ADA)
    [claim] = mailroom.claim(token=7)
    mailroom.record(claim, RecipientState.ACCEPTED)
    outbox.prune(timedelta(0))
    mailroom.record(claim, RecipientState.ACCEPTED)
    assert mailroom.count("attempt") == 0
    assert mailroom.count("recipient") == 0
    assert message_id == claim.message_id
