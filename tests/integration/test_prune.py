"""Deleting what is over and old, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import URL, Connection, Engine, event, update

from postroom.errors import ConfigError, UnknownMessage
from postroom.message.attachment import Attachment
from postroom.message.message import Message
from postroom.states import FINAL_STATES, OnDoubt, RecipientState
from postroom.storage import actions, prune, schema
from postroom.storage import engine as engines
from postroom.storage.engine import read_transaction, write_transaction
from postroom.storage.enqueue import enqueue
from postroom.storage.enqueue_request import EnqueueRequest, OutboxDefaults
from postroom.storage.prune import Pruned
from postroom.storage.tables import CHUNK_BYTES, Tables
from postroom.storage.workers import WorkerIdentity, record_heartbeat
from tests.integration.mailroom import Mailroom

S = RecipientState

MONTH = timedelta(days=30)
LONG_AGO = timedelta(days=40)

#: Every table that a message has rows in.
OF_A_MESSAGE = ("message", "recipient", "attempt", "attachment", "queue")


@pytest.fixture
def mailroom(worker_engine: Engine, tables: Tables) -> Mailroom:
    return Mailroom(worker_engine, tables)


def _prune(mailroom: Mailroom, older_than: timedelta = MONTH, batch: int = 1000) -> Pruned:
    return prune.prune(mailroom.engine, mailroom.tables, older_than, batch=batch)


def _ended(
    mailroom: Mailroom,
    *to: str,
    ago: timedelta = LONG_AGO,
    state: RecipientState = S.ACCEPTED,
    **fields: object,
) -> int:
    message_id = mailroom.enqueue(*(to or ("a@example.com",)), **fields)  # type: ignore[arg-type]
    mailroom.bring_to(message_id, state)
    mailroom.age(message_id, ago)
    return message_id


def _counts(mailroom: Mailroom, *tables: str) -> dict[str, int]:
    return {table: mailroom.count(table) for table in tables}


@pytest.mark.parametrize("state", sorted(FINAL_STATES))
def test_a_message_that_ended_long_ago_goes_with_all_that_hangs_on_it(
    mailroom: Mailroom, state: RecipientState
) -> None:
    attached = [Attachment.from_bytes("a.txt", b"text")]
    _ended(mailroom, "a@example.com", "b@example.com", state=state, attachments=attached)
    assert _prune(mailroom).messages == 1
    assert _counts(mailroom, *OF_A_MESSAGE) == dict.fromkeys(OF_A_MESSAGE, 0)


@pytest.mark.parametrize("state", sorted(set(S) - FINAL_STATES))
def test_a_message_that_may_still_change_stays_however_old(
    mailroom: Mailroom, state: RecipientState
) -> None:
    message_id = _ended(mailroom, state=state)
    assert _prune(mailroom, timedelta(0)).messages == 0
    assert mailroom.only(message_id).state is state


def test_one_recipient_in_doubt_keeps_the_whole_message(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("a@example.com", "b@example.com", on_doubt=OnDoubt.HOLD)
    first, second = mailroom.claim()
    mailroom.record(first, S.ACCEPTED)
    mailroom.record(second, S.IN_DOUBT)
    mailroom.age(message_id, LONG_AGO)
    assert _prune(mailroom) == Pruned(messages=0, blobs=0)
    assert _counts(mailroom, "recipient", "attempt") == {"recipient": 2, "attempt": 2}


def test_a_message_is_as_old_as_its_last_outcome(mailroom: Mailroom) -> None:
    message_id = _ended(mailroom, ago=LONG_AGO)
    recipient = mailroom.tables.recipient
    with write_transaction(mailroom.engine) as connection:
        yesterday = datetime.now(UTC) - timedelta(days=1)
        connection.execute(update(recipient).values(updated_at=yesterday))
    assert _prune(mailroom).messages == 0
    assert _prune(mailroom, timedelta(hours=1)).messages == 1
    with pytest.raises(UnknownMessage):
        mailroom.status(message_id)


def test_what_is_not_old_enough_stays(mailroom: Mailroom) -> None:
    kept = _ended(mailroom, ago=timedelta(days=29))
    _ended(mailroom, ago=timedelta(days=31))
    assert _prune(mailroom).messages == 1
    assert mailroom.only(kept).state is S.ACCEPTED


def test_small_batches_come_to_the_same_end(mailroom: Mailroom) -> None:
    for number in range(4):
        _ended(mailroom, f"a{number}@example.com", f"b{number}@example.com")
        _ended(mailroom, f"c{number}@example.com", state=S.DEFERRED)
    _ended(mailroom, *(f"u{n}@example.com" for n in range(7)))
    assert _prune(mailroom, batch=2).messages == 5
    assert _counts(mailroom, "message", "recipient", "attempt", "queue") == {
        "message": 4,
        "recipient": 4,
        "attempt": 4,
        "queue": 4,
    }


def test_no_transaction_deletes_more_recipients_than_a_batch(mailroom: Mailroom) -> None:
    _ended(mailroom, *(f"u{n}@example.com" for n in range(10)))
    seen: list[int] = []

    def count(connection: Connection, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("DELETE FROM postroom_recipient"):
            seen.append(cursor.rowcount)  # type: ignore[attr-defined]

    event.listen(mailroom.engine, "after_cursor_execute", count)
    _prune(mailroom, batch=4)
    event.remove(mailroom.engine, "after_cursor_execute", count)
    assert seen == [4, 4, 2]


def test_what_was_interrupted_goes_on_the_next_time(
    mailroom: Mailroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = _ended(mailroom, *(f"u{n}@example.com" for n in range(6)))

    class PowerCut(Exception):
        pass

    whole = prune._Messages._delete_empty

    def cut(self: object, connection: Connection, messages: object) -> int:
        if mailroom.count("recipient") < 6:
            raise PowerCut
        return whole(self, connection, messages)  # type: ignore[arg-type]

    monkeypatch.setattr(prune._Messages, "_delete_empty", cut)
    with pytest.raises(PowerCut):
        _prune(mailroom, batch=2)
    assert len(mailroom.status(message_id).recipients) == 4
    monkeypatch.undo()
    assert _prune(mailroom, batch=2).messages == 1
    assert _counts(mailroom, "recipient", "attempt", "message") == {
        "recipient": 0,
        "attempt": 0,
        "message": 0,
    }


def test_a_key_is_free_again_when_its_message_is_gone(mailroom: Mailroom) -> None:
    _ended(mailroom, idempotency_key="order:1", subject="The first")
    _prune(mailroom)
    message_id = mailroom.enqueue("a@example.com", idempotency_key="order:1", subject="The second")
    assert mailroom.status(message_id).subject == "The second"


# -- blobs ------------------------------------------------------------------------------------


def _with(mailroom: Mailroom, content: bytes, *, ago: timedelta = LONG_AGO) -> int:
    message_id = _ended(
        mailroom, ago=ago, attachments=[Attachment.from_bytes("report.bin", content)]
    )
    blob = mailroom.tables.blob
    with write_transaction(mailroom.engine) as connection:
        connection.execute(update(blob).values(created_at=datetime.now(UTC) - ago))
    return message_id


def test_a_blob_goes_with_the_last_message_that_carries_it(mailroom: Mailroom) -> None:
    content = b"x" * (CHUNK_BYTES + 1)
    _with(mailroom, content)
    kept = _with(mailroom, content, ago=timedelta(days=5))
    assert _prune(mailroom) == Pruned(messages=1, blobs=0)
    assert _counts(mailroom, "blob", "blob_chunk") == {"blob": 1, "blob_chunk": 2}
    assert mailroom.status(kept)
    assert _prune(mailroom, timedelta(days=2)) == Pruned(messages=1, blobs=1)
    assert _counts(mailroom, "blob", "blob_chunk") == {"blob": 0, "blob_chunk": 0}


def test_a_young_blob_is_left_alone(mailroom: Mailroom) -> None:
    _with(mailroom, b"x", ago=timedelta(hours=2))
    assert _prune(mailroom, timedelta(hours=1)) == Pruned(messages=1, blobs=0)


def test_many_blobs_go_some_at_a_time(mailroom: Mailroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune, "_BLOBS_A_TRANSACTION", 2)
    for number in range(5):
        _with(mailroom, b"%d" % number)
    assert _prune(mailroom) == Pruned(messages=5, blobs=5)


# -- at the same time -------------------------------------------------------------------------


@contextmanager
def _enqueueing(mailroom: Mailroom, content: bytes) -> Iterator[None]:
    """Enqueue the same bytes once more, and commit at the end."""
    attached = [Attachment.from_bytes("again.bin", content)]
    message = Message(sender="shop@example.com", subject="", attachments=attached)
    with write_transaction(mailroom.engine) as connection:
        enqueue(
            connection,
            mailroom.tables,
            EnqueueRequest(message=message, to=["b@x.example"]),
            OutboxDefaults(),
        )
        yield


def test_a_blob_that_is_being_used_again_stays(postgresql_url: URL, tables: Tables) -> None:
    engine = engines.worker_engine(postgresql_url)
    schema.create(engine)
    mailroom = Mailroom(engine, tables)
    _with(mailroom, b"content")
    with _enqueueing(mailroom, b"content"):
        assert _prune(mailroom) == Pruned(messages=1, blobs=0)
    assert _counts(mailroom, "blob", "blob_chunk", "attachment") == {
        "blob": 1,
        "blob_chunk": 1,
        "attachment": 1,
    }
    engine.dispose()


def test_a_blob_that_was_named_since_the_first_look_stays(mailroom: Mailroom) -> None:
    mailroom.enqueue("a@example.com", attachments=[Attachment.from_bytes("a.bin", b"content")])
    with write_transaction(mailroom.engine) as connection:
        looked_at = connection.scalars(mailroom.tables.blob.select()).all()
        assert prune._delete_unnamed(connection, mailroom.tables, looked_at) == 0
    assert _counts(mailroom, "blob", "blob_chunk") == {"blob": 1, "blob_chunk": 1}


def test_pruning_and_enqueueing_the_same_bytes_at_once_loses_none(mailroom: Mailroom) -> None:
    content = b"the same invoice" * 1000
    done = threading.Event()

    def enqueue_again() -> None:
        for number in range(15):
            attached = [Attachment.from_bytes("i.pdf", content)]
            message_id = mailroom.enqueue(f"u{number}@example.com", attachments=attached)
            with write_transaction(mailroom.engine) as connection:
                actions.cancel(connection, mailroom.tables, message_id)
        done.set()

    thread = threading.Thread(target=enqueue_again)
    thread.start()
    tomorrow = datetime.now(UTC) + timedelta(days=2)
    while not done.is_set():
        prune.prune(mailroom.engine, mailroom.tables, timedelta(0), now=lambda: tomorrow)
    thread.join()
    last = mailroom.enqueue("z@example.com", attachments=[Attachment.from_bytes("i", content)])
    assert mailroom.status(last)
    assert _counts(mailroom, "blob", "blob_chunk") == {"blob": 1, "blob_chunk": 1}


def test_a_message_that_is_being_requeued_stays(postgresql_url: URL, tables: Tables) -> None:
    engine = engines.worker_engine(postgresql_url)
    schema.create(engine)
    mailroom = Mailroom(engine, tables)
    message_id = _ended(mailroom, state=S.REJECTED)
    with write_transaction(engine) as connection:
        assert actions.retry(connection, tables, message_id)
        assert _prune(mailroom).messages == 0
    assert len(mailroom.claim()) == 1
    engine.dispose()


def test_a_message_that_was_requeued_since_it_was_found_stays(mailroom: Mailroom) -> None:
    message_id = _ended(mailroom, state=S.REJECTED)
    found = prune._Messages(mailroom.tables, before=datetime.now(UTC), batch=10)
    (page,) = found.pages(mailroom.engine)
    with write_transaction(mailroom.engine) as connection:
        assert actions.retry(connection, mailroom.tables, message_id)
    assert found.delete(mailroom.engine, page) == 0
    assert len(mailroom.claim()) == 1


def test_requeueing_while_pruning_sends_the_mail_or_says_that_it_is_gone(
    mailroom: Mailroom,
) -> None:
    ids = [_ended(mailroom, f"u{n}@example.com", state=S.REJECTED) for n in range(12)]
    start = threading.Barrier(2)
    requeued: list[int] = []

    def decide() -> None:
        start.wait()
        for message_id in reversed(ids):
            try:
                with write_transaction(mailroom.engine) as connection:
                    if actions.retry(connection, mailroom.tables, message_id):
                        requeued.append(message_id)
            except UnknownMessage:
                pass

    thread = threading.Thread(target=decide)
    thread.start()
    start.wait()
    pruned = _prune(mailroom, batch=2)
    thread.join()
    assert pruned.messages + len(requeued) == len(ids)
    assert sorted(claim.message_id for claim in mailroom.claim()) == sorted(requeued)


# -- the rest ---------------------------------------------------------------------------------


def test_workers_that_are_long_gone_are_forgotten(mailroom: Mailroom) -> None:
    now = datetime.now(UTC)
    with write_transaction(mailroom.engine) as connection:
        for name, last_seen_at in (("dead", now - timedelta(days=2)), ("alive", now)):
            worker = WorkerIdentity(
                id=name, host="box", pid=1, version="1", started_at=last_seen_at
            )
            record_heartbeat(connection, mailroom.tables, worker, last_seen_at)
    _prune(mailroom)
    with read_transaction(mailroom.engine) as connection:
        assert connection.scalars(mailroom.tables.worker.select()).all() == ["alive"]


@pytest.mark.parametrize(
    ("older_than", "batch", "complaint"),
    [
        (timedelta(days=-1), 1, "older_than"),
        (MONTH, 0, "batch"),
        (MONTH, 100_000, "batch"),
    ],
)
def test_a_wrong_age_or_batch_is_refused(
    mailroom: Mailroom, older_than: timedelta, batch: int, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        _prune(mailroom, older_than, batch)
