"""What can be asked of the outbox, on SQLite and PostgreSQL alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import URL, Engine, MetaData, create_engine, delete, update
from sqlalchemy.orm import Session

from postroom.errors import InvalidAddress, MessageError, UnknownMessage
from postroom.message.message import Recipient
from postroom.message.templates import Template
from postroom.states import Fault, Lane, OnDoubt, Phase, RecipientState, RecipientType
from postroom.storage import queries, schema
from postroom.storage.actions import cancel, suppress
from postroom.storage.engine import clock_sql, read_transaction, write_transaction
from postroom.storage.queries import Search
from postroom.storage.tables import Tables
from postroom.storage.workers import WorkerIdentity, record_heartbeat
from tests.integration.mailroom import Mailroom, statements

S = RecipientState

TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)


@pytest.fixture
def mailroom(worker_engine: Engine, tables: Tables) -> Mailroom:
    return Mailroom(worker_engine, tables)


def _search(mailroom: Mailroom, **wanted: object) -> list[int]:
    with read_transaction(mailroom.engine) as connection:
        found = queries.search(connection, mailroom.tables, Search(**wanted))  # type: ignore[arg-type]
    return [message.id for message in found]


def _counts(mailroom: Mailroom) -> queries.OutboxStats:
    with read_transaction(mailroom.engine) as connection:
        return queries.stats(connection, mailroom.tables)


def _beat(mailroom: Mailroom, last_seen_at: datetime, name: str = "w1") -> None:
    worker = WorkerIdentity(id=name, host="box", pid=7, version="1.2", started_at=last_seen_at)
    with write_transaction(mailroom.engine) as connection:
        record_heartbeat(connection, mailroom.tables, worker, last_seen_at)


# -- status -----------------------------------------------------------------------------------


def test_a_message_stands_with_everything_that_was_asked_for(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue(
        "Ann Lee <ann@example.com>",
        "bob@example.com",
        subject="Grüße",
        tags=["order", "vip"],
        lane=Lane.URGENT,
        idempotency_key="order:1",
        scheduled_at=TOMORROW,
        expires_at=TOMORROW + timedelta(days=1),
    )
    found = mailroom.status(message_id)
    assert (found.id, found.idempotency_key, found.subject, found.sender) == (
        message_id,
        "order:1",
        "Grüße",
        "shop@example.com",
    )
    assert (found.lane, found.tags, found.state) == (Lane.URGENT, ("order", "vip"), S.QUEUED)
    assert (found.scheduled_at, found.expires_at) == (TOMORROW, TOMORROW + timedelta(days=1))
    assert found.created_at.tzinfo is UTC
    ann, bob = found.recipients
    assert (ann.address, ann.name, ann.type) == ("ann@example.com", "Ann Lee", RecipientType.TO)
    assert bob.due_at == TOMORROW
    assert (bob.attempt_count, bob.claim_count, bob.reply_code, bob.reply) == (0, 0, None, None)


def test_a_status_is_two_statements_however_many_recipients(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue(*(f"u{n}@example.com" for n in range(50)))
    with statements(mailroom.engine) as seen:
        assert len(mailroom.status(message_id).recipients) == 50
    assert len([one for one in seen if one.startswith("SELECT")]) == 2


def test_what_the_relay_said_last_is_told(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("ann@example.com")
    mailroom.bring_to(message_id, S.DEFERRED)
    one = mailroom.only(message_id)
    assert (one.state, one.attempt_count, one.fault) == (S.DEFERRED, 1, Fault.RECIPIENT)
    assert (one.reply_code, one.enhanced_status, one.reply) == (
        451,
        "4.7.1",
        "451 4.7.1 Greylisted",
    )
    assert one.due_at is not None
    assert one.due_at - datetime.now(UTC) == pytest.approx(
        timedelta(seconds=300), abs=timedelta(seconds=30)
    )


def test_a_recipient_is_being_sent_to_only_while_its_lease_lasts(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("ann@example.com")
    mailroom.claim()
    assert mailroom.only(message_id).state is S.SENDING
    assert mailroom.only(message_id).claim_count == 1
    mailroom.expire_leases()
    assert mailroom.only(message_id).state is S.QUEUED


def test_what_has_ended_is_due_no_more(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("ann@example.com")
    mailroom.bring_to(message_id, S.ACCEPTED)
    assert mailroom.only(message_id).due_at is None
    assert mailroom.status(message_id).state is S.ACCEPTED


def test_a_templated_subject_is_shown_as_it_was_written(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue(
        Recipient("ann@example.com", variables={"n": 1}),  # type: ignore[arg-type]
        subject=Template.from_string("Order {{ n }}"),
    )
    assert mailroom.status(message_id).subject == "Order {{ n }}"
    with read_transaction(mailroom.engine) as connection:
        (found,) = queries.search(connection, mailroom.tables, Search())
    assert found.subject == "Order {{ n }}"


def test_a_message_that_does_not_exist_is_said_to(mailroom: Mailroom) -> None:
    for ask in (queries.status, queries.explain):
        with (
            pytest.raises(UnknownMessage, match="there is no message"),
            read_transaction(mailroom.engine) as c,
        ):
            ask(c, mailroom.tables, 4711)


def test_an_applications_session_may_ask_too(
    mailroom: Mailroom, session: Session, tables: Tables
) -> None:
    message_id = mailroom.enqueue("ann@example.com")
    assert queries.status(session, tables, message_id).state is S.QUEUED
    assert queries.stats(session, tables).due == 1
    assert len(queries.search(session, tables, Search(tag=None))) == 1
    assert len(queries.explain(session, tables, message_id)) == 1
    assert queries.attempts(session, tables, message_id) == ()


# -- attempts ---------------------------------------------------------------------------------


def test_every_attempt_is_told_in_its_order(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("ann@example.com")
    mailroom.bring_to(message_id, S.DEFERRED, due_in_s=-1.0, duration_s=0.25)
    mailroom.bring_to(message_id, S.ACCEPTED)
    with read_transaction(mailroom.engine) as connection:
        first, second = queries.attempts(connection, mailroom.tables, message_id)
    assert first.recipient_id == mailroom.only(message_id).id
    assert (first.address, first.relay, first.phase) == (
        "ann@example.com",
        "smtp.example.com",
        Phase.RCPT,
    )
    assert (first.outcome, first.fault, first.duration_s) == (S.DEFERRED, Fault.RECIPIENT, 0.25)
    assert first.transcript == "C: RCPT TO"
    assert (second.outcome, second.reply_code, second.transcript) == (S.ACCEPTED, 250, None)


# -- search -----------------------------------------------------------------------------------


def test_the_newest_come_first_a_page_at_a_time(mailroom: Mailroom) -> None:
    ids = [mailroom.enqueue(f"u{n}@example.com") for n in range(5)]
    assert _search(mailroom, limit=2) == [ids[4], ids[3]]
    assert _search(mailroom, limit=2, before_id=ids[3]) == [ids[2], ids[1]]
    assert _search(mailroom, limit=2, before_id=ids[1]) == [ids[0]]
    assert _search(mailroom, before_id=ids[0]) == []


def test_messages_are_found_by_tag_lane_and_key(mailroom: Mailroom) -> None:
    plain = mailroom.enqueue("a@example.com")
    tagged = mailroom.enqueue(
        "b@example.com", tags=["news", "may"], lane=Lane.BULK, idempotency_key="k"
    )
    assert _search(mailroom, tag="may") == [tagged]
    assert _search(mailroom, tag="ma") == []
    assert _search(mailroom, lane=Lane.NORMAL) == [plain]
    assert _search(mailroom, idempotency_key="k") == [tagged]
    assert _search(mailroom, idempotency_key="k", lane=Lane.NORMAL) == []


def test_messages_are_found_by_any_spelling_of_an_address(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("Ann@Bücher.example")
    mailroom.enqueue("bob@example.com")
    assert _search(mailroom, address="Ann Lee <ann@xn--bcher-kva.example>") == [message_id]
    with pytest.raises(InvalidAddress):
        _search(mailroom, address="nobody")


def test_messages_are_found_by_the_state_of_one_of_their_recipients(mailroom: Mailroom) -> None:
    rejected = mailroom.enqueue("a@example.com")
    mailroom.bring_to(rejected, S.REJECTED)
    sending = mailroom.enqueue("a@example.com", "b@example.com")
    mailroom.claim()
    queued = mailroom.enqueue("a@example.com")
    assert _search(mailroom, state=S.REJECTED) == [rejected]
    assert _search(mailroom, state=S.SENDING) == [sending]
    assert _search(mailroom, state=S.QUEUED) == [queued]
    assert _search(mailroom, state=S.SENDING, address="b@example.com") == [sending]
    assert _search(mailroom, state=S.REJECTED, address="b@example.com") == []


def test_a_state_that_there_is_none_of_is_refused_by_name() -> None:
    assert Search(state="rejected", lane="bulk") == Search(state=S.REJECTED, lane=Lane.BULK)
    with pytest.raises(MessageError, match="rejectd"):
        Search(state="rejectd")  # type: ignore[arg-type]


def test_a_summary_counts_recipients_by_state(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("a@example.com", "b@example.com", "c@example.com")
    first, second, _ = mailroom.claim()
    mailroom.record(first, S.ACCEPTED)
    mailroom.record(second, S.REJECTED)
    with read_transaction(mailroom.engine) as connection, statements(mailroom.engine) as seen:
        (found,) = queries.search(connection, mailroom.tables, Search())
    assert len(seen) == 2
    assert found.id == message_id
    assert found.state is S.SENDING
    assert found.recipients == 3
    assert found.by_state == {S.ACCEPTED: 1, S.REJECTED: 1, S.SENDING: 1}


def test_tags_are_found_in_tables_of_the_applications_own_migrations(
    database_url: URL, tables: Tables
) -> None:
    engine = create_engine(database_url)
    application = MetaData()
    schema.add_tables_to(application)
    application.create_all(engine)
    mailroom = Mailroom(engine, tables)
    message_id = mailroom.enqueue("a@example.com", tags=["news"])
    assert _search(mailroom, tag="news") == [message_id]
    assert _search(mailroom, tag="old") == []
    engine.dispose()


# -- counts -----------------------------------------------------------------------------------


def test_an_empty_outbox_counts_nothing(mailroom: Mailroom) -> None:
    assert _counts(mailroom) == queries.OutboxStats(
        by_state={},
        due=0,
        oldest_due_s=None,
        in_flight=0,
        accepted_last_minute=0,
        workers=(),
    )


def test_recipients_are_counted_by_state(mailroom: Mailroom) -> None:
    for state in (S.ACCEPTED, S.REJECTED, S.DEFERRED):
        mailroom.bring_to(mailroom.enqueue("a@example.com"), state)
    mailroom.bring_to(mailroom.enqueue("a@example.com", "b@example.com"), S.SENDING)
    mailroom.enqueue("later@example.com", scheduled_at=TOMORROW)
    mailroom.enqueue("now@example.com")
    found = _counts(mailroom)
    assert found.by_state == {
        S.QUEUED: 2,
        S.SENDING: 2,
        S.DEFERRED: 1,
        S.ACCEPTED: 1,
        S.REJECTED: 1,
    }
    assert (found.due, found.in_flight, found.accepted_last_minute) == (1, 2, 1)
    assert found.oldest_due_s is not None
    assert 0 <= found.oldest_due_s < 30


def test_a_lease_that_ran_out_is_due_and_not_in_flight(mailroom: Mailroom) -> None:
    mailroom.bring_to(mailroom.enqueue("a@example.com"), S.SENDING)
    mailroom.expire_leases()
    found = _counts(mailroom)
    assert (found.due, found.in_flight) == (1, 0)
    assert found.by_state == {S.QUEUED: 1}
    assert found.oldest_due_s is not None
    assert found.oldest_due_s >= 1


def test_what_was_accepted_in_the_last_minute_is_counted_from_the_end(
    mailroom: Mailroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroom.storage.queries.outbox_stats._LATEST", 2)
    mailroom.enqueue(*(f"u{n}@example.com" for n in range(9)))
    now = datetime.now(UTC)
    for number, claim in enumerate(mailroom.claim()):
        at = now - timedelta(minutes=5) if number < 3 else now
        mailroom.record(claim, S.REJECTED if number == 8 else S.ACCEPTED, attempted_at=at)
    assert _counts(mailroom).accepted_last_minute == 5


def test_workers_are_told_with_the_age_of_their_heartbeat(mailroom: Mailroom) -> None:
    now = datetime.now(UTC)
    _beat(mailroom, now - timedelta(minutes=10), "old")
    _beat(mailroom, now, "new")
    new, old = _counts(mailroom).workers
    assert (new.id, new.host, new.pid, new.version) == ("new", "box", 7, "1.2")
    assert new.seen_s < 30
    assert old.seen_s == pytest.approx(600, abs=30)


# -- explain ----------------------------------------------------------------------------------


def _due_since(mailroom: Mailroom, seconds: int, *to: str, **fields: Any) -> int:
    """Enqueue a message that is due for so long already, whatever the clocks' steps are."""
    message_id = mailroom.enqueue(*to, **fields)
    queue = mailroom.tables.queue
    with write_transaction(mailroom.engine) as connection:
        connection.execute(
            update(queue)
            .where(queue.c.message_id == message_id)
            .values(due_at=clock_sql(connection.dialect) - seconds)
        )
    return message_id


def test_due_mail_without_a_worker_is_explained(mailroom: Mailroom) -> None:
    message_id = _due_since(mailroom, 1, "ann@example.com")
    found = mailroom.explain(message_id)
    assert found.why == "it is due; no worker is there: start one (postroom worker)"
    assert (found.address, found.state) == ("ann@example.com", S.QUEUED)
    assert found.next_at is not None
    _beat(mailroom, datetime.now(UTC) - timedelta(minutes=12))
    assert "no worker has been seen for 12 min" in mailroom.explain(message_id).why


def test_due_mail_in_a_line_is_explained(
    mailroom: Mailroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    _beat(mailroom, datetime.now(UTC))
    for n in range(3):
        _due_since(mailroom, 20, f"u{n}@example.com")
    _due_since(mailroom, 20, "other-lane@example.com", lane=Lane.BULK)
    first = _due_since(mailroom, 10, "urgent@example.com", lane=Lane.URGENT)
    last = _due_since(mailroom, 10, "ann@example.com")
    assert mailroom.explain(first).why == "it is due; a worker takes it next"
    assert mailroom.explain(last).why == "it is due; 3 in lane normal are due before it"
    monkeypatch.setattr("postroom.storage.queries.explanation._LONGEST_LINE", 2)
    assert "2 or more in lane normal" in mailroom.explain(last).why


def test_scheduled_mail_is_explained(mailroom: Mailroom) -> None:
    found = mailroom.explain(mailroom.enqueue("ann@example.com", scheduled_at=TOMORROW))
    assert found.why == f"scheduled for {TOMORROW:%Y-%m-%d %H:%M:%SZ}"
    assert found.next_at == TOMORROW


def test_mail_that_a_worker_holds_is_explained(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("ann@example.com")
    mailroom.claim()
    found = mailroom.explain(message_id)
    assert found.state is S.SENDING
    assert found.why.startswith("a worker holds it, until ")
    mailroom.expire_leases()
    assert "the worker that held it is gone" in mailroom.explain(message_id).why


def test_mail_whose_worker_died_at_the_final_dot_is_explained(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("ann@example.com", on_doubt=OnDoubt.HOLD)
    (claim,) = mailroom.claim()
    mailroom.intend(claim)
    mailroom.expire_leases()
    assert "the next one records it as in doubt" in mailroom.explain(message_id).why


def test_deferred_mail_is_explained_with_the_reply_and_the_next_try(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("ann@example.com")
    mailroom.bring_to(message_id, S.DEFERRED)
    found = mailroom.explain(message_id)
    assert found.why.startswith(
        "put off after 1 attempts (the fault of: recipient): 451 4.7.1 Greylisted; the next try"
    )
    assert found.next_at == mailroom.only(message_id).due_at


def test_deferred_mail_that_expires_first_is_explained(mailroom: Mailroom) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=60)
    message_id = mailroom.enqueue("ann@example.com", expires_at=soon)
    mailroom.bring_to(message_id, S.DEFERRED)
    assert "but it expires at" in mailroom.explain(message_id).why


def test_mail_in_doubt_is_explained(mailroom: Mailroom) -> None:
    resent = mailroom.enqueue("ann@example.com")
    mailroom.bring_to(resent, S.IN_DOUBT)
    found = mailroom.explain(resent)
    assert "the relay may have the mail; it is sent again at" in found.why
    assert found.next_at is not None
    held = mailroom.enqueue("ann@example.com", on_doubt=OnDoubt.HOLD)
    mailroom.bring_to(held, S.IN_DOUBT, due_in_s=None)
    found = mailroom.explain(held)
    assert "it is held until somebody decides" in found.why
    assert found.next_at is None


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (S.ACCEPTED, "250 2.0.0 Ok: queued as 1A2B"),
        (S.REJECTED, "refused for good at"),
        (S.CANCELLED, "cancelled at"),
        (S.EXPIRED, "it expired"),
        (S.SUPPRESSED, "it is not any more: retry sends it"),
    ],
)
def test_mail_that_has_ended_is_explained(
    mailroom: Mailroom, state: RecipientState, why: str
) -> None:
    message_id = mailroom.enqueue("ann@example.com")
    mailroom.bring_to(message_id, state)
    found = mailroom.explain(message_id)
    assert (found.state, found.next_at) == (state, None)
    assert why in found.why


def test_a_suppressed_address_is_explained_with_the_reason(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("ann@example.com")
    with write_transaction(mailroom.engine) as connection:
        suppress(connection, mailroom.tables, "ANN@example.com", "asked us to")
    mailroom.bring_to(message_id, S.SUPPRESSED)
    assert mailroom.explain(message_id).why.endswith("suppression list: asked us to")


def test_mail_that_waits_past_its_expiry_is_explained(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("ann@example.com", expires_at=TOMORROW)
    with write_transaction(mailroom.engine) as connection:
        past = datetime.now(UTC) - timedelta(minutes=1)
        connection.execute(update(mailroom.tables.message).values(expires_at=past))
    assert "which the next worker records" in mailroom.explain(message_id).why


def test_a_recipient_that_fell_out_of_the_queue_is_called_a_defect(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("ann@example.com")
    with write_transaction(mailroom.engine) as connection:
        connection.execute(delete(mailroom.tables.queue))
    assert "a defect" in mailroom.explain(message_id).why


def test_mail_a_relay_put_off_without_blame_waits_for_its_time(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("ann@example.com")
    with write_transaction(mailroom.engine) as connection:
        later = clock_sql(connection.dialect) + 60.0
        connection.execute(update(mailroom.tables.queue).values(due_at=later))
    assert mailroom.explain(message_id).why.startswith("waits until ")


def test_each_recipient_is_explained_for_itself(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("a@example.com", "b@example.com")
    first, _ = mailroom.claim()
    mailroom.record(first, S.ACCEPTED)
    with write_transaction(mailroom.engine) as connection:
        cancel(connection, mailroom.tables, message_id)
        found = queries.explain(connection, mailroom.tables, message_id)
    assert [one.state for one in found] == [S.ACCEPTED, S.SENDING]
