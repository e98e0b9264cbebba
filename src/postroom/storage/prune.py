"""Deleting what is over and old, in small transactions of its own.

Never anything that may still change by itself: every recipient is final and none is queued. It
may be stopped at any time; the next run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Text,
    cast,
    delete,
    exists,
    literal,
    select,
    tuple_,
)

from postroom.errors import ConfigError
from postroom.states import FINAL_STATES
from postroom.storage.engine import read_transaction, write_transaction
from postroom.storage.row_decoding import stored
from postroom.storage.tables import Tables

_LARGEST_BATCH = 10_000

#: Blobs deleted in one transaction: a blob may be a hundred rows of 256 KiB.
_BLOBS = 20

#: Only blobs that nobody has used for so long are looked at; also how long a worker that does not
#: beat any more is remembered.
_GRACE = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How much was deleted.

    Attributes:
        messages: How many messages, with their recipients and attempts.
        blobs: How many contents of attachments that no message has any more.
    """

    messages: int
    blobs: int


def _utc_now() -> datetime:
    return datetime.now(UTC)


def prune(
    engine: Engine,
    tables: Tables,
    older_than: timedelta,
    *,
    batch: int = 1000,
    now: Callable[[], datetime] = _utc_now,
) -> Pruned:
    """Delete messages that ended more than ``older_than`` ago, then the blobs nobody has any more.

    A message has ended when its last recipient has. Each transaction deletes at most ``batch``
    recipients, with their attempts.

    Raises:
        ConfigError: the age is negative, or the batch not between 1 and 10,000.
    """
    if older_than < timedelta(0):
        raise ConfigError(f"expected older_than to be an age, got: {older_than}")
    if not 1 <= batch <= _LARGEST_BATCH:
        raise ConfigError(f"expected batch to be between 1 and {_LARGEST_BATCH}, got: {batch}")
    moment = now()
    messages = _Messages(tables, before=moment - older_than, batch=batch)
    deleted = sum(messages.delete(engine, ids) for ids in messages.pages(engine))
    blobs = _delete_blobs(engine, tables, moment - _GRACE)
    with write_transaction(engine) as connection:
        connection.execute(
            delete(tables.worker).where(tables.worker.c.last_seen_at < moment - _GRACE)
        )
    return Pruned(messages=deleted, blobs=blobs)


class _Messages:
    """The messages that ended before a moment."""

    def __init__(self, tables: Tables, *, before: datetime, batch: int) -> None:
        self._tables = tables
        self._before = before
        self._batch = batch

    def pages(self, engine: Engine) -> Iterator[Sequence[int]]:
        """Yield ids a page at a time, the oldest first; what is not over is passed by, once."""
        message = self._tables.message.c
        page = (
            select(_exactly(message.created_at, engine.dialect), message.id)
            .where(message.created_at < self._before, self._is_over(), ~self._is_queued())
            .order_by(message.created_at, message.id)
            .limit(self._batch)
        )
        following = page
        while True:
            with read_transaction(engine) as connection:
                rows = connection.execute(following).all()
            if not rows:
                return
            yield [row.id for row in rows]
            last = _literally(rows[-1].created_at, engine.dialect)
            place = tuple_(message.created_at, message.id)
            following = page.where(place > tuple_(last, literal(rows[-1].id)))

    def delete(self, engine: Engine, messages: Sequence[int]) -> int:
        """Delete messages and all that hangs on them; return how many."""
        deleted = 0
        while True:
            with write_transaction(engine) as connection:
                over = self._held(connection, messages)
                if not over:
                    return deleted
                self._delete_recipients(connection, over)
                deleted += self._delete_empty(connection, over)

    def _is_over(self) -> ColumnElement[bool]:
        message, recipient = self._tables.message.c, self._tables.recipient.c
        final = recipient.state.in_([state.value for state in FINAL_STATES])
        lives = ~final | (recipient.updated_at >= self._before)
        return ~exists(select(recipient.id).where(recipient.message_id == message.id, lives))

    def _is_queued(self) -> ColumnElement[bool]:
        message, queue = self._tables.message.c, self._tables.queue.c
        return exists(select(queue.recipient_id).where(queue.message_id == message.id))

    def _held(self, connection: Connection, messages: Sequence[int]) -> Sequence[int]:
        """Return the messages that are over still, and stay so until the transaction ends.

        A decision holds its message as we do. One that came first is skipped, or has committed:
        then the second statement, which sees that on PostgreSQL as the first may not, finds the
        recipient in the queue. Nothing but a decision to send again unsettles what is final.
        """
        message = self._tables.message.c
        free = select(message.id).where(message.id.in_(messages)).order_by(message.id)
        held = connection.scalars(free.with_for_update(skip_locked=True)).all()
        over = select(message.id).where(message.id.in_(held), ~self._is_queued())
        return connection.scalars(over).all()

    def _delete_recipients(self, connection: Connection, messages: Sequence[int]) -> None:
        recipient, attempt = self._tables.recipient, self._tables.attempt
        of_these = select(recipient.c.id).where(recipient.c.message_id.in_(messages))
        some = connection.scalars(of_these.limit(self._batch)).all()
        connection.execute(delete(attempt).where(attempt.c.recipient_id.in_(some)))
        connection.execute(delete(recipient).where(recipient.c.id.in_(some)))

    def _delete_empty(self, connection: Connection, messages: Sequence[int]) -> int:
        """Delete the messages of which no recipient is left; a message never stands without one."""
        message, recipient = self._tables.message, self._tables.recipient
        left = exists(select(recipient.c.id).where(recipient.c.message_id == message.c.id))
        empty = connection.scalars(
            select(message.c.id).where(message.c.id.in_(messages), ~left)
        ).all()
        attachment = self._tables.attachment
        connection.execute(delete(attachment).where(attachment.c.message_id.in_(empty)))
        connection.execute(delete(message).where(message.c.id.in_(empty)))
        return len(empty)


def _exactly(date: Column[Any], dialect: Dialect) -> ColumnElement[Any]:
    """Return a date as the database itself writes it, whether or not Python has such a one."""
    return (
        cast(date, Text).label(date.name) if dialect.name == "postgresql" else stored(date, dialect)
    )


def _literally(date: Any, dialect: Dialect) -> ColumnElement[Any]:
    """Return what `_exactly` has fetched as a value to compare dates with."""
    if dialect.name == "postgresql":
        return cast(literal(date, Text()), DateTime(timezone=True))
    return cast(literal(date), Text) if isinstance(date, bytes) else literal(date)


def _delete_blobs(engine: Engine, tables: Tables, before: datetime) -> int:
    """Delete the blobs that no attachment names, some at a time; return how many.

    Enqueueing may name one again meanwhile. On SQLite it cannot: there is one writer. On
    PostgreSQL it locks the blob first, and we do: what it holds is skipped; what it has named
    and committed since our statement began is seen by the next, made under our lock; and who
    wants a blob that we hold waits, finds it gone, and stores it anew.
    """
    blob = tables.blob.c
    after, deleted = "", 0
    while True:
        some = (
            select(blob.sha256)
            .where(blob.sha256 > after, blob.created_at < before, ~_is_named(tables))
            .order_by(blob.sha256)
            .limit(_BLOBS)
        )
        with write_transaction(engine) as connection:
            held = connection.scalars(some.with_for_update(skip_locked=True)).all()
            if not held:
                return deleted
            deleted += _delete_unnamed(connection, tables, held)
        after = held[-1]


def _is_named(tables: Tables) -> ColumnElement[bool]:
    attachment, blob = tables.attachment.c, tables.blob.c
    return exists(select(attachment.message_id).where(attachment.sha256 == blob.sha256))


def _delete_unnamed(connection: Connection, tables: Tables, held: Sequence[str]) -> int:
    blob, chunk = tables.blob, tables.blob_chunk
    unnamed = select(blob.c.sha256).where(blob.c.sha256.in_(held), ~_is_named(tables))
    names = connection.scalars(unnamed).all()
    connection.execute(delete(chunk).where(chunk.c.sha256.in_(names)))
    connection.execute(delete(blob).where(blob.c.sha256.in_(names)))
    return len(names)
