"""From an order to rows, in the caller's transaction. Never commits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select

from postroom.errors import IdempotencyConflict, MessageError, MessageTooLarge
from postroom.message.address import Address
from postroom.message.draft import EnqueueContext, make_draft
from postroom.message.message import Draft, Message
from postroom.storage import attachments, recipient_rows
from postroom.storage.attachments import SpooledAttachment, encoded_size_bytes, spool
from postroom.storage.bulk_insert import insert_from_queries
from postroom.storage.engine import SessionOrConnection, begin_immediate
from postroom.storage.enqueue_request import EnqueueRequest, OutboxDefaults, Receipt
from postroom.storage.message_store import content_hash, message_row
from postroom.storage.recipients import RecipientSet, resolve_recipients
from postroom.storage.sessions import allows_notify, check_is_session, connection_of
from postroom.storage.tables import Tables
from postroom.storage.upsert import upsert
from postroom.text import check_line

_LONGEST_KEY = 255  # as wide as the column

#: A key that stands, and is gone when it is looked at, has been pruned in between.
_TRIES = 3


def enqueue(
    executor: SessionOrConnection, tables: Tables, order: EnqueueRequest, terms: OutboxDefaults
) -> Receipt:
    """Store ``order`` in the transaction that ``executor`` is in; the caller commits or not.

    Attachments are read first; nothing is written unless all of it can be. Without attachments
    and queries it is four statements at most; with a query it is all in a savepoint.

    Where ``key`` stands already for the same content, nothing is written and the receipt is for
    the message that stands. A transaction that enqueues a key waits for another one that has
    enqueued the same key and has not ended yet. (On PostgreSQL at REPEATABLE READ or above it
    then gets the serialization failure that such transactions are retried for.)

    Raises:
        MessageError: the message, a recipient or an attachment cannot be sent; nothing has been
            written. Its subclasses say what.
        IdempotencyConflict: the key stands for other content.
        ConfigError: users are named, and the outbox does not know where they are; or ``executor``
            has no transaction of the caller's (autocommit, an engine).
    """
    check_is_session(executor)
    key = None if order.idempotency_key is None else _checked_key(order.idempotency_key)
    people = resolve_recipients(order, executor, terms.users)
    with spool(order.message.attachments, terms.max_message_bytes) as files:
        row = _row(order.message, _draft(order.message, terms, people, files))
        connection = connection_of(executor)
        notify = terms.notify and allows_notify(connection)
        if key is not None:  # nothing else ever asks for the hash
            queries = [one.fingerprint(connection.dialect) for one in people.queries]
            content = content_hash(row, map(_attached, files), people.requested, queries)
            row |= {"idempotency_key": key, "content_hash": content}
        with _undone_where_refused(connection, people):
            receipt = _insert(connection, tables, row, people)
            if not receipt.is_new:
                return receipt
            _attach(connection, tables, receipt.message_id, files, row["created_at"])
            place = _place(order.message, receipt, row["created_at"])
            if not people.queries:
                recipient_rows.insert_and_queue(
                    connection, tables, people.unique, place, notify=notify
                )
                return receipt
            count = insert_from_queries(connection, tables, people, place, notify=notify)
    return replace(receipt, count=count)


def _undone_where_refused(
    connection: Connection, people: RecipientSet
) -> AbstractContextManager[object]:
    """Whom a query finds is known once they are written: wrap it in a savepoint."""
    if not people.queries:
        return nullcontext()
    begin_immediate(connection)  # on SQLite a savepoint that comes first would commit
    return connection.begin_nested()


def _checked_key(key: str) -> str:
    text = check_line(key, "the key", error=MessageError)
    if not 0 < len(text) <= _LONGEST_KEY:
        raise MessageError(
            f"expected the key to have 1 to {_LONGEST_KEY} characters, got: {len(text)}"
        )
    return text


def _draft(
    message: Message,
    terms: OutboxDefaults,
    people: RecipientSet,
    files: Sequence[SpooledAttachment],
) -> Draft:
    occasion = EnqueueContext(
        sender=terms.sender,
        templates=terms.templates,
        message_id_seed=terms.new_message_id_seed(),
        date=terms.now(),
    )
    draft = make_draft(
        message,
        occasion,
        parts=[file.part for file in files],
        has_variables=people.have_variables,
    )
    bodies = [body for body in (draft.text, draft.html) if isinstance(body, str)]
    size_bytes = sum(len(body.encode()) for body in bodies)
    size_bytes += sum(encoded_size_bytes(file.part.size_bytes) for file in files)
    if size_bytes > terms.max_message_bytes:
        raise MessageTooLarge(
            f"expected the message to be at most {terms.max_message_bytes:,} bytes when encoded "
            f"(max_message_bytes), got: {size_bytes:,}"
        )
    return replace(draft, shared=people.shared)


def _row(message: Message, draft: Draft) -> dict[str, Any]:
    return message_row(draft) | {
        "idempotency_key": None,
        "content_hash": "",
        "envelope_sender": message.envelope_sender,
        "dsn": None if message.dsn is None else asdict(message.dsn),
        "lane": message.lane.value,
        "relay": message.relay,
        "on_doubt": message.on_doubt.value,
        "retry_delays_s": None if message.retry_delays_s is None else list(message.retry_delays_s),
        "scheduled_at": message.scheduled_at,
        "expires_at": message.expires_at,
        "tags": list(message.tags) or None,
    }


def _place(message: Message, receipt: Receipt, at: datetime) -> recipient_rows.QueueSlot:
    return recipient_rows.QueueSlot(
        message_id=receipt.message_id,
        lane=message.lane,
        scheduled_at=message.scheduled_at,
        at=at,
    )


def _attached(file: SpooledAttachment) -> dict[str, Any]:
    part = file.part
    return {
        "filename": part.filename,
        "content_type": part.content_type,
        "disposition": part.disposition.value,
        "content_id": part.content_id,
        "size_bytes": part.size_bytes,
        "sha256": file.sha256,
    }


def _insert(
    connection: Connection, tables: Tables, row: dict[str, Any], people: RecipientSet
) -> Receipt:
    """Insert the message, and return the receipt for it or for the one that stands."""
    statement = (
        upsert(connection, tables.message).on_conflict_do_nothing().returning(tables.message.c.id)
    )
    for _ in range(_TRIES):
        message_id = connection.scalar(statement, row)
        if message_id is not None:
            return Receipt(
                message_id=message_id,
                idempotency_key=row["idempotency_key"],
                is_new=True,
                recipients=() if people.queries else tuple(one.address for one in people.unique),
                count=len(people.unique),
            )
        standing = _standing(connection, tables, row["idempotency_key"])
        if standing is not None:
            _check_content(row, standing)
            return _receipt(connection, tables, row["idempotency_key"], standing.id, people)
    raise IdempotencyConflict(
        f"the idempotency key {row['idempotency_key']!r} belongs to a message that cannot be read "
        "in this transaction; enqueue again in a new one"
    )


def _standing(connection: Connection, tables: Tables, key: str) -> Any:
    message = tables.message.c
    wanted = select(message.id, message.content_hash).where(message.idempotency_key == key)
    return connection.execute(wanted).one_or_none()


def _check_content(row: dict[str, Any], standing: Any) -> None:
    if standing.content_hash != row["content_hash"]:
        raise IdempotencyConflict(
            f"the idempotency key {row['idempotency_key']!r} stands for message {standing.id}, "
            "whose content is another; use a key of its own for other content"
        )


def _receipt(
    connection: Connection, tables: Tables, key: str, message_id: int, people: RecipientSet
) -> Receipt:
    """Return the receipt for the message that stands."""
    found = () if people.queries else tuple(_recipients(connection, tables, message_id))
    recipient = tables.recipient.c
    count = select(func.count()).where(recipient.message_id == message_id)
    return Receipt(
        message_id=message_id,
        idempotency_key=key,
        is_new=False,
        recipients=found,
        count=connection.scalar(count) or 0 if people.queries else len(found),
    )


def _recipients(connection: Connection, tables: Tables, message_id: int) -> Iterable[Address]:
    recipient = tables.recipient.c
    wanted = (
        select(recipient.address, recipient.name)
        .where(recipient.message_id == message_id)
        .order_by(recipient.id)
    )
    for address, name in connection.execute(wanted):
        local, _, domain = address.rpartition("@")
        yield Address.from_parts(local=local, domain=domain, name=name)


def _attach(
    connection: Connection,
    tables: Tables,
    message_id: int,
    files: Sequence[SpooledAttachment],
    at: datetime,
) -> None:
    if not files:
        return
    attachments.store_blobs(connection, tables, files, at)
    rows = [
        _attached(file) | {"message_id": message_id, "position": position}
        for position, file in enumerate(files)
    ]
    connection.execute(insert(tables.attachment), rows)
