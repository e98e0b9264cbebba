"""Mail from an application's transaction to a relay, on both databases."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from sqlalchemy import Engine, update
from sqlalchemy.orm import Session

from postroom import (
    Attachment,
    Fault,
    Lane,
    Message,
    MessageStatus,
    OnDoubt,
    Outbox,
    Phase,
    Receipt,
    Recipient,
    RecipientState,
    Template,
    WorkerConfig,
)
from postroom.storage.tables import Tables
from postroom.testing.faulty_relay import FaultyRelay, Misbehavior
from tests.services.waiting import wait_for

ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"
QUICK = WorkerConfig(poll_interval_s=0.05, lease_s=5, in_doubt_retry_s=0.2, shutdown_grace_s=10)


@pytest.fixture
def relay() -> Iterator[FaultyRelay]:
    with FaultyRelay() as relay:
        yield relay


class Office:
    """An application with an outbox, a relay, and short ways to use both."""

    def __init__(self, engine: Engine, relay: FaultyRelay, options: str = "") -> None:
        self.engine = engine
        self.outbox = Outbox(
            f"{relay.url}{options}", engine=engine, sender="shop@example.com", worker=QUICK
        )

    def enqueue(self, *to: Any, **message: Any) -> Receipt:
        message = {"subject": "Order A-1", "text": "Thank you.\n"} | message
        with Session(self.engine) as session, session.begin():
            return self.outbox.enqueue(session, Message(**message), to=to)

    def status(self, receipt: Receipt) -> MessageStatus:
        with Session(self.engine) as session:
            return self.outbox.status(session, receipt)

    def states(self, receipt: Receipt) -> dict[str, RecipientState]:
        return {one.address: one.state for one in self.status(receipt).recipients}

    def attempts(self, receipt: Receipt) -> list[Any]:
        with Session(self.engine) as session:
            return list(self.outbox.attempts(session, receipt))

    def drain(self) -> None:
        self.outbox.worker().drain()

    def until_empty(self) -> None:
        self.outbox.worker().run(until_empty=True)


@pytest.fixture
def office(engine: Engine, relay: FaultyRelay) -> Iterator[Office]:
    office = Office(engine, relay)
    yield office
    office.outbox.close()


def test_what_was_committed_goes_out_and_is_recorded(office: Office, relay: FaultyRelay) -> None:
    receipt = office.enqueue(ADA, f"Bob <{BOB}>")
    office.drain()
    assert office.states(receipt) == {ADA: "accepted", BOB: "accepted"}
    assert sorted(mail.recipients for mail in relay.accepted) == [(ADA,), (BOB,)]
    for attempt in office.attempts(receipt):
        assert (attempt.outcome, attempt.phase, attempt.reply_code) == ("accepted", "dot", 250)
        assert attempt.transcript is None


def test_what_was_rolled_back_never_existed(office: Office, relay: FaultyRelay) -> None:
    with Session(office.engine) as session:
        office.outbox.enqueue(session, Message(subject="Gone", text="x"), to=[ADA])
        session.rollback()
    office.drain()
    assert relay.accepted == []


def test_everyone_gets_a_copy_that_shows_nobody_else(office: Office, relay: FaultyRelay) -> None:
    office.enqueue(f"Ada <{ADA}>", BOB)
    office.drain()
    copies = {
        mail.recipients[0]: message_from_bytes(mail.content, policy=default)
        for mail in relay.accepted
    }
    assert copies[ADA]["To"] == f"Ada <{ADA}>"
    assert copies[BOB]["To"] == BOB
    assert copies[ADA]["Message-ID"] != copies[BOB]["Message-ID"]


def test_a_mail_sent_together_is_one_transaction_with_an_outcome_each(
    office: Office, relay: FaultyRelay
) -> None:
    relay.on(Phase.RCPT, "550 5.1.1 no such user", address=BOB)
    receipt = office.enqueue(ADA, BOB, EVE, shared=True)
    office.drain()
    assert office.states(receipt) == {ADA: "accepted", BOB: "rejected", EVE: "accepted"}
    [mail] = relay.accepted
    assert mail.recipients == (ADA, EVE)


def test_a_rejected_recipient_does_not_delay_the_others(office: Office, relay: FaultyRelay) -> None:
    relay.on(Phase.RCPT, "550 5.1.1 no such user", address=BOB)
    receipt = office.enqueue(ADA, BOB, EVE)
    office.drain()
    assert office.states(receipt) == {ADA: "accepted", BOB: "rejected", EVE: "accepted"}
    [bob] = [one for one in office.status(receipt).recipients if one.address == BOB]
    assert (bob.reply_code, bob.enhanced_status, bob.fault) == (550, "5.1.1", Fault.RECIPIENT)
    assert bob.reply == "550 5.1.1 no such user"
    [attempt] = [one for one in office.attempts(receipt) if one.address == BOB]
    assert attempt.phase == Phase.RCPT
    assert f"RCPT TO:<{BOB}>" in attempt.transcript
    assert "550 5.1.1 no such user" in attempt.transcript


def test_a_passing_refusal_is_tried_again_on_the_messages_own_schedule(
    office: Office, relay: FaultyRelay
) -> None:
    relay.on(Phase.RCPT, "451 4.7.1 greylisted", address=ADA, times=2)
    receipt = office.enqueue(ADA, retry_delays_s=[0.1, 0.1, 0.1])
    office.until_empty()
    assert office.states(receipt) == {ADA: "accepted"}
    assert [one.outcome for one in office.attempts(receipt)] == ["deferred"] * 2 + ["accepted"]


def test_a_schedule_that_is_used_up_ends_in_rejected_with_the_last_reply(
    office: Office, relay: FaultyRelay
) -> None:
    relay.on(Phase.RCPT, "452 4.2.2 mailbox full", address=ADA)
    receipt = office.enqueue(ADA, retry_delays_s=[0.05])
    office.until_empty()
    [ada] = office.status(receipt).recipients
    assert ada.state == RecipientState.REJECTED
    assert ada.attempt_count == 2
    assert ada.reply == "gave up after 2 tries; last: 452 4.2.2 mailbox full"


def test_a_retry_carries_the_same_bytes(office: Office, relay: FaultyRelay) -> None:
    relay.on(Phase.DOT, Misbehavior.CLOSE, after_accepting=True, times=1)
    office.enqueue(ADA, html="<p>Hello</p>", attachments=[Attachment.from_bytes("a.txt", b"x")])
    office.until_empty()
    first, second = relay.accepted
    assert first.content == second.content


def test_a_broken_connection_after_the_dot_is_in_doubt_and_resent_later(
    office: Office, relay: FaultyRelay
) -> None:
    relay.on(Phase.DOT, Misbehavior.CLOSE, after_accepting=True, times=1)
    receipt = office.enqueue(ADA)
    office.drain()
    assert office.states(receipt) == {ADA: "in_doubt"}
    office.until_empty()
    assert office.states(receipt) == {ADA: "accepted"}
    assert len(relay.accepted) == 2


def test_doubt_can_be_held_for_a_person_to_resolve(office: Office, relay: FaultyRelay) -> None:
    relay.on(Phase.DOT, Misbehavior.CLOSE, after_accepting=True, times=1)
    receipt = office.enqueue(ADA, on_doubt=OnDoubt.HOLD)
    office.until_empty()
    assert office.states(receipt) == {ADA: "in_doubt"}
    assert len(relay.accepted) == 1
    with Session(office.engine) as session, session.begin():
        assert office.outbox.resolve(session, receipt, sent=True) == (ADA,)
    assert office.states(receipt) == {ADA: "accepted"}
    office.until_empty()
    assert len(relay.accepted) == 1


def test_held_doubt_can_be_resolved_by_sending_again(office: Office, relay: FaultyRelay) -> None:
    relay.on(Phase.DOT, Misbehavior.CLOSE, after_accepting=True, times=1)
    receipt = office.enqueue(ADA, on_doubt=OnDoubt.HOLD)
    office.until_empty()
    with Session(office.engine) as session, session.begin():
        office.outbox.resolve(session, receipt, sent=False)
    office.until_empty()
    assert office.states(receipt) == {ADA: "accepted"}
    assert len(relay.accepted) == 2


def test_a_broken_connection_before_the_dot_is_tried_again_without_doubt(
    office: Office, relay: FaultyRelay
) -> None:
    relay.on(Phase.BODY, Misbehavior.RESET, times=1)
    # More than any socket takes at once: the relay cannot have seen the dot.
    large = Attachment.from_bytes("large.bin", bytes(16_000_000))
    receipt = office.enqueue(ADA, attachments=[large])
    office.until_empty()
    assert office.states(receipt) == {ADA: "accepted"}
    assert len(relay.accepted) == 1
    assert [one.outcome for one in office.attempts(receipt)] == ["deferred", "accepted"]


def test_a_relay_that_is_down_costs_the_recipients_nothing(
    office: Office, relay: FaultyRelay
) -> None:
    relay.refuse()
    receipt = office.enqueue(ADA, retry_delays_s=[])
    office.drain()
    [ada] = office.status(receipt).recipients
    assert (ada.state, ada.fault) == (RecipientState.DEFERRED, Fault.RELAY)
    relay.serve()
    office.until_empty()
    assert office.states(receipt) == {ADA: "accepted"}


def test_connections_are_used_again_for_the_next_mail(office: Office, relay: FaultyRelay) -> None:
    for _ in range(20):
        office.enqueue(ADA)
    Office(office.engine, relay, "&connections=1").drain()
    assert len(relay.accepted) == 20
    assert relay.connections == 1


def test_a_connection_dropped_between_two_mails_costs_nothing(
    office: Office, relay: FaultyRelay
) -> None:
    with office.outbox.running():
        first = office.enqueue(ADA)
        wait_for(lambda: office.states(first) == {ADA: "accepted"}, "the first to be recorded")
        relay.hang_up()
        second = office.enqueue(BOB)
        relay.wait_for(2)
    assert [one.outcome for one in office.attempts(first)] == ["accepted"]
    assert [one.outcome for one in office.attempts(second)] == ["accepted"]


def test_each_recipient_is_rendered_with_variables_of_their_own(
    office: Office, relay: FaultyRelay
) -> None:
    office.enqueue(
        Recipient(ADA, {"name": "Ada"}),
        Recipient(BOB, {"name": "Bob"}),
        subject=Template.from_string("For {{ name }}"),
        text=Template.from_string("Dear {{ name }}, {{ greeting }}", greeting="hello"),
    )
    office.drain()
    texts = {
        mail.recipients[0]: message_from_bytes(mail.content, policy=default)
        for mail in relay.accepted
    }
    assert texts[ADA]["Subject"] == "For Ada"
    assert texts[BOB].get_content().strip() == "Dear Bob, hello"


def test_a_recipient_whose_template_fails_does_not_delay_the_others(
    office: Office, relay: FaultyRelay
) -> None:
    receipt = office.enqueue(
        Recipient(ADA, {"amount": 1}),
        Recipient(BOB, {"amount": "a lot"}),
        text=Template.from_string("You owe {{ amount + 1 }}"),
    )
    office.drain()
    assert office.states(receipt) == {ADA: "accepted", BOB: "rejected"}
    [bob] = [one for one in office.status(receipt).recipients if one.address == BOB]
    assert bob.fault == Fault.MESSAGE
    assert bob.reply is not None
    assert bob.reply.startswith("not sent: ")


def test_attachments_arrive_as_they_were_when_they_were_enqueued(
    office: Office, relay: FaultyRelay, tmp_path: Any
) -> None:
    invoice = tmp_path / "invoice.pdf"
    invoice.write_bytes(b"%PDF-1.4 " + bytes(range(256)) * 3000)
    original = invoice.read_bytes()
    office.enqueue(ADA, attachments=[Attachment.from_path(invoice)])
    invoice.unlink()
    office.drain()
    [mail] = relay.accepted
    [part] = message_from_bytes(mail.content, policy=default).iter_attachments()
    assert part.get_filename() == "invoice.pdf"
    assert part.get_content() == original


def test_mail_is_not_sent_before_its_time(office: Office, relay: FaultyRelay) -> None:
    receipt = office.enqueue(ADA, scheduled_at=datetime.now(UTC) + timedelta(hours=1))
    office.drain()
    assert relay.accepted == []
    assert office.states(receipt) == {ADA: "queued"}


def test_mail_that_has_expired_is_not_sent(
    office: Office, relay: FaultyRelay, tables: Tables
) -> None:
    receipt = office.enqueue(ADA, expires_at=datetime.now(UTC) + timedelta(hours=1))
    with Session(office.engine) as session, session.begin():
        session.execute(
            update(tables.message).values(expires_at=datetime.now(UTC) - timedelta(seconds=1))
        )
    office.drain()
    assert relay.accepted == []
    assert office.states(receipt) == {ADA: "expired"}


def test_a_suppressed_address_is_not_written_to_even_where_its_mail_waits(
    office: Office, relay: FaultyRelay
) -> None:
    receipt = office.enqueue(ADA, BOB)
    with Session(office.engine) as session, session.begin():
        office.outbox.suppress(session, "ADA@Example.com", "asked us to stop")
    office.drain()
    assert office.states(receipt) == {ADA: "suppressed", BOB: "accepted"}
    assert [mail.recipients for mail in relay.accepted] == [(BOB,)]


def test_cancelled_mail_is_not_sent_and_may_be_queued_again(
    office: Office, relay: FaultyRelay
) -> None:
    receipt = office.enqueue(ADA)
    with Session(office.engine) as session, session.begin():
        assert office.outbox.cancel(session, receipt).cancelled == (ADA,)
    office.drain()
    assert relay.accepted == []
    with Session(office.engine) as session, session.begin():
        assert office.outbox.retry(session, receipt) == (ADA,)
    office.drain()
    assert office.states(receipt) == {ADA: "accepted"}


def test_a_recipient_claimed_again_and_again_without_outcome_is_set_aside(
    office: Office, relay: FaultyRelay, tables: Tables
) -> None:
    receipt = office.enqueue(ADA, BOB)
    with Session(office.engine) as session, session.begin():
        first = office.outbox.status(session, receipt).recipients[0].id
        session.execute(
            update(tables.queue).where(tables.queue.c.recipient_id == first).values(claim_count=5)
        )
    office.drain()
    assert office.states(receipt) == {ADA: "rejected", BOB: "accepted"}
    [ada] = [one for one in office.status(receipt).recipients if one.address == ADA]
    assert ada.fault == Fault.OURSELVES


def test_a_stored_message_that_cannot_be_read_does_not_stop_the_others(
    office: Office, relay: FaultyRelay, tables: Tables
) -> None:
    broken = office.enqueue(ADA)
    well = office.enqueue(BOB)
    with Session(office.engine) as session, session.begin():
        session.execute(
            update(tables.message)
            .where(tables.message.c.id == broken.message_id)
            .values(lane="slow")
        )
    office.drain()
    assert [mail.recipients for mail in relay.accepted] == [(BOB,)]
    assert office.states(well) == {BOB: "accepted"}
    with Session(office.engine) as session, session.begin():
        session.execute(update(tables.message).values(lane="normal"))
    [ada] = office.status(broken).recipients
    assert (ada.state, ada.fault) == (RecipientState.REJECTED, Fault.OURSELVES)


def test_the_urgent_lane_does_not_wait_behind_a_backlog(office: Office, relay: FaultyRelay) -> None:
    office.enqueue(*(f"r{n}@example.com" for n in range(200)), lane=Lane.BULK)
    office.enqueue(ADA, lane=Lane.URGENT)
    Office(office.engine, relay, "&connections=1").drain()
    order = [mail.recipients[0] for mail in relay.accepted]
    assert len(order) == 201
    assert order.index(ADA) < 5


def test_many_workers_send_every_recipient_once(office: Office, relay: FaultyRelay) -> None:
    receipt = office.enqueue(*(f"r{n}@example.com" for n in range(600)))
    workers = [Office(office.engine, relay).outbox.worker() for _ in range(3)]
    threads = [threading.Thread(target=worker.drain) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    office.until_empty()
    assert set(office.states(receipt).values()) == {RecipientState.ACCEPTED}
    sent = [mail.recipients[0] for mail in relay.accepted]
    assert len(sent) == len(set(sent)) == 600


def test_a_commit_wakes_the_worker_of_this_process(engine: Engine, relay: FaultyRelay) -> None:
    # Polled only every ten minutes: without the hint nothing would arrive.
    slow = WorkerConfig(poll_interval_s=600)
    outbox = Outbox(relay.url, engine=engine, sender="shop@example.com", worker=slow, notify=False)
    with outbox.running():
        with Session(engine) as session, session.begin():
            outbox.enqueue(session, Message(subject="Now", text="x"), to=[ADA])
        relay.wait_for(1)
    outbox.close()


@pytest.mark.parametrize("phase", [Phase.GREETING, Phase.MAIL, Phase.DOT])
def test_a_connection_that_hangs_holds_no_other_up(
    office: Office, relay: FaultyRelay, phase: Phase
) -> None:
    relay.on(phase, Misbehavior.STALL, times=1)
    office.enqueue(*(f"r{n}@example.com" for n in range(40)))
    one = Office(office.engine, relay, "&connect_timeout=30")
    worker = one.outbox.worker(WorkerConfig(poll_interval_s=0.05, lease_s=60, shutdown_grace_s=0.1))
    worker.start()
    # What hangs is one mail, or with its dot also the one whose opening went along.
    relay.wait_for(38)
    worker.stop()
    relay.stop()
    worker.join()


def test_all_connections_share_one_thread(office: Office, relay: FaultyRelay) -> None:
    relay.on(Phase.DOT, Misbehavior.STALL)
    office.enqueue(*(f"r{n}@example.com" for n in range(40)))
    one = Office(office.engine, relay, "&connections=10")
    worker = one.outbox.worker(WorkerConfig(poll_interval_s=0.05, lease_s=60, shutdown_grace_s=0.3))
    worker.start()
    wait_for(lambda: relay.connections == 10, "10 connections")
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("postroom-senders") == 1
    worker.stop()
    assert worker.join()


def test_a_stopped_worker_gives_back_what_it_has_not_sent(
    office: Office, relay: FaultyRelay
) -> None:
    relay.on(Phase.DOT, Misbehavior.STALL, after_accepting=True, times=1)
    receipt = office.enqueue(*(f"r{n}@example.com" for n in range(50)))
    one = Office(office.engine, relay, "&connections=1")
    worker = one.outbox.worker(WorkerConfig(poll_interval_s=0.05, lease_s=60, shutdown_grace_s=0.3))
    worker.start()
    relay.wait_for(1)
    worker.stop()
    assert worker.join()
    assert Counter(office.states(receipt).values()) == {"in_doubt": 1, "queued": 49}
    office.drain()
    assert Counter(office.states(receipt).values()) == {"in_doubt": 1, "accepted": 49}


def test_a_worker_that_is_told_to_stop_while_it_begins_ends_at_once(
    office: Office, relay: FaultyRelay
) -> None:
    receipt = office.enqueue(ADA)
    worker = office.outbox.worker()
    worker.stop()
    working = threading.Thread(target=worker.run, daemon=True)
    working.start()
    working.join(10)
    assert not working.is_alive()
    assert office.states(receipt) == {ADA: "queued"}
    worker.drain()
    assert office.states(receipt) == {ADA: "accepted"}
