"""From an order to rows, in the caller's transaction. Never commits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select

from postroom.storage import blobs, recipients
from postroom.storage.addressees import Addressees, addressees
from postroom.storage.callers import allows_notify, check_is_session, connection_of
from postroom.storage.contents import columns, content_hash
from postroom.storage.engine import Executor, take_write_lock
from postroom.storage.enlist import enlist
from postroom.storage.models import Tables
from postroom.storage.order import Order, Receipt, Terms
from postroom.storage.spool import Spooled, encoded_bytes, spooled
from postroom.storage.upsert import upsert
from postroom.values.address import Address
from postroom.values.drafting import Occasion, drafted
from postroom.values.errors import KeyConflict, MessageError, MessageTooLarge
from postroom.values.headers import checked_text
from postroom.values.message import Draft, Message

_LONGEST_KEY = 255  # as wide as the column

#: A key that stands, and is gone when it is looked at, has been pruned in between.
_TRIES = 3


def enqueue(executor: Executor, tables: Tables, order: Order, terms: Terms) -> Receipt:
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
        KeyConflict: the key stands for other content.
        ConfigError: users are named, and the outbox does not know where they are; or ``executor``
            has no transaction of the caller's (autocommit, an engine).
    """
    check_is_session(executor)
    key = None if order.key is None else _checked_key(order.key)
    people = addressees(order, executor, terms.people)
    with spooled(order.message.attachments, terms.max_message_bytes) as files:
        row = _row(order.message, _draft(order.message, terms, people, files))
        connection = connection_of(executor)
        notify = terms.notify and allows_notify(connection)
        if key is not None:  # nothing else ever asks for the hash
            queries = [one.fingerprint(connection.dialect) for one in people.selections]
            content = content_hash(row, map(_attached, files), people.asked, queries)
            row |= {"key": key, "content_hash": content}
        with _undone_where_refused(connection, people):
            receipt = _insert(connection, tables, row, people)
            if not receipt.is_new:
                return receipt
            _attach(connection, tables, receipt.message_id, files, row["created_at"])
            place = _place(order.message, receipt, row["created_at"])
            if not people.selections:
                recipients.add(connection, tables, people.all, place, notify=notify)
                return receipt
            count = enlist(connection, tables, people, place, notify=notify)
    return replace(receipt, count=count)


def _undone_where_refused(
    connection: Connection, people: Addressees
) -> AbstractContextManager[object]:
    """Whom a query finds is known once they are written: wrap it in a savepoint."""
    if not people.selections:
        return nullcontext()
    take_write_lock(connection)  # on SQLite a savepoint that comes first would commit
    return connection.begin_nested()


def _checked_key(key: str) -> str:
    text = checked_text(key, "the key", error=MessageError)
    if not 0 < len(text) <= _LONGEST_KEY:
        raise MessageError(
            f"expected the key to have 1 to {_LONGEST_KEY} characters, got: {len(text)}"
        )
    return text


def _draft(message: Message, terms: Terms, people: Addressees, files: Sequence[Spooled]) -> Draft:
    occasion = Occasion(
        sender=terms.sender,
        templates=terms.templates,
        token=terms.new_token(),
        date=terms.now(),
    )
    draft = drafted(
        message,
        occasion,
        parts=[file.part for file in files],
        has_variables=people.have_variables,
    )
    bodies = [body for body in (draft.text, draft.html) if isinstance(body, str)]
    size_bytes = sum(len(body.encode()) for body in bodies)
    size_bytes += sum(encoded_bytes(file.part.size_bytes) for file in files)
    if size_bytes > terms.max_message_bytes:
        raise MessageTooLarge(
            f"expected the message to be at most {terms.max_message_bytes:,} bytes when encoded "
            f"(max_message_bytes), got: {size_bytes:,}"
        )
    return replace(draft, together=people.together)


def _row(message: Message, draft: Draft) -> dict[str, Any]:
    return columns(draft) | {
        "key": None,
        "content_hash": "",
        "envelope_sender": message.envelope_sender,
        "notice": None if message.notice is None else asdict(message.notice),
        "lane": message.lane.value,
        "relay": message.relay,
        "on_doubt": message.on_doubt.value,
        "retry_delays": None if message.retry_delays is None else list(message.retry_delays),
        "not_before": message.not_before,
        "expires_at": message.expires_at,
        "tags": list(message.tags) or None,
    }


def _place(message: Message, receipt: Receipt, at: datetime) -> recipients.Place:
    return recipients.Place(
        message_id=receipt.message_id,
        lane=message.lane,
        not_before=message.not_before,
        at=at,
    )


def _attached(file: Spooled) -> dict[str, Any]:
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
    connection: Connection, tables: Tables, row: dict[str, Any], people: Addressees
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
                key=row["key"],
                is_new=True,
                recipients=() if people.selections else tuple(one.address for one in people.all),
                count=len(people.all),
            )
        standing = _standing(connection, tables, row["key"])
        if standing is not None:
            _check_content(row, standing)
            return _receipt(connection, tables, row["key"], standing.id, people)
    raise KeyConflict(
        f"expected key {row['key']!r} to be free or to stand, got: one that cannot be read; "
        "enqueue again in a new transaction"
    )


def _standing(connection: Connection, tables: Tables, key: str) -> Any:
    message = tables.message.c
    wanted = select(message.id, message.content_hash).where(message.key == key)
    return connection.execute(wanted).one_or_none()


def _check_content(row: dict[str, Any], standing: Any) -> None:
    if standing.content_hash != row["content_hash"]:
        raise KeyConflict(
            f"expected key {row['key']!r} to be new, or to come with the content that it stands "
            f"for, got: other content than that of message {standing.id}; use a key of its own"
        )


def _receipt(
    connection: Connection, tables: Tables, key: str, message_id: int, people: Addressees
) -> Receipt:
    """Return the receipt for the message that stands."""
    found = () if people.selections else tuple(_recipients(connection, tables, message_id))
    recipient = tables.recipient.c
    count = select(func.count()).where(recipient.message_id == message_id)
    return Receipt(
        message_id=message_id,
        key=key,
        is_new=False,
        recipients=found,
        count=connection.scalar(count) or 0 if people.selections else len(found),
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
        yield Address(local=local, domain=domain, name=name)


def _attach(
    connection: Connection,
    tables: Tables,
    message_id: int,
    files: Sequence[Spooled],
    at: datetime,
) -> None:
    if not files:
        return
    blobs.store(connection, tables, files, at)
    rows = [
        _attached(file) | {"message_id": message_id, "position": position}
        for position, file in enumerate(files)
    ]
    connection.execute(insert(tables.attachment), rows)
