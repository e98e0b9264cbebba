"""Delete old messages that are finished, in small transactions of its own.

Never deletes anything that can still change by itself: every recipient is final and none is queued.
It can be interrupted at any time; the next run continues.
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

_MAX_BATCH = 10_000

#: Blobs deleted in one transaction: a blob may be a hundred rows of 256 KiB.
_BLOBS_A_TRANSACTION = 20

#: Only blobs older than this are considered; also how long a worker without heartbeats is listed.
_GRACE = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How much was deleted.

    Attributes:
        messages: Number of messages.
        blobs: Number of attachments' contents that no message uses any more.
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
    """Delete messages that ended more than ``older_than`` ago, then unused blobs.

    A message has ended when its last recipient has.

    Args:
        engine: The database; transactions are begun and committed here.
        tables: The outbox's tables.
        older_than: Age since the last change.
        batch: The most recipients that one transaction deletes, with their attempts; 1 to 10,000.
        now: The clock.

    Raises:
        ConfigError: the age is negative, or the batch is not between 1 and 10,000.
    """
    if older_than < timedelta(0):
        raise ConfigError(f"older_than must not be negative: {older_than}")
    if not 1 <= batch <= _MAX_BATCH:
        raise ConfigError(f"batch must be between 1 and {_MAX_BATCH:,}, not {batch:,}")
    started_at = now()
    messages = _Messages(tables, before=started_at - older_than, batch=batch)
    deleted = sum(messages.delete(engine, ids) for ids in messages.pages(engine))
    blobs = _delete_blobs(engine, tables, started_at - _GRACE)
    with write_transaction(engine) as connection:
        connection.execute(
            delete(tables.worker).where(tables.worker.c.last_seen_at < started_at - _GRACE)
        )
    return Pruned(messages=deleted, blobs=blobs)


class _Messages:
    """The messages that ended before a given time."""

    def __init__(self, tables: Tables, *, before: datetime, batch: int) -> None:
        self._tables = tables
        self._before = before
        self._batch = batch

    def pages(self, engine: Engine) -> Iterator[Sequence[int]]:
        """Yield ids a page at a time, the oldest first; messages that are not over are skipped."""
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
            position = tuple_(message.created_at, message.id)
            following = page.where(position > tuple_(last, literal(rows[-1].id)))

    def delete(self, engine: Engine, messages: Sequence[int]) -> int:
        """Delete messages, recipients, attempts and attachments; return how many messages."""
        deleted = 0
        while True:
            with write_transaction(engine) as connection:
                over = self._lock_finished(connection, messages)
                if not over:
                    return deleted
                self._delete_recipients(connection, over)
                deleted += self._delete_empty(connection, over)

    def _is_over(self) -> ColumnElement[bool]:
        message, recipient = self._tables.message.c, self._tables.recipient.c
        final = recipient.state.in_([state.value for state in FINAL_STATES])
        may_change = ~final | (recipient.updated_at >= self._before)
        return ~exists(select(recipient.id).where(recipient.message_id == message.id, may_change))

    def _is_queued(self) -> ColumnElement[bool]:
        message, queue = self._tables.message.c, self._tables.queue.c
        return exists(select(queue.recipient_id).where(queue.message_id == message.id))

    def _lock_finished(self, connection: Connection, messages: Sequence[int]) -> Sequence[int]:
        """Return the messages that are still over, and stay so until the transaction ends.

        Actions lock their message as we do. A message that an action locked first is skipped. If
        the action has committed, the second statement finds the recipient in the queue (on
        PostgreSQL, the first statement may not see that yet). Only an action can make a final
        recipient change again.
        """
        message = self._tables.message.c
        free = select(message.id).where(message.id.in_(messages)).order_by(message.id)
        held = connection.scalars(free.with_for_update(skip_locked=True)).all()
        over = select(message.id).where(message.id.in_(held), ~self._is_queued())
        return connection.scalars(over).all()

    def _delete_recipients(self, connection: Connection, messages: Sequence[int]) -> None:
        recipient, attempt = self._tables.recipient, self._tables.attempt
        of_these = select(recipient.c.id).where(recipient.c.message_id.in_(messages))
        batch = connection.scalars(of_these.limit(self._batch)).all()
        connection.execute(delete(attempt).where(attempt.c.recipient_id.in_(batch)))
        connection.execute(delete(recipient).where(recipient.c.id.in_(batch)))

    def _delete_empty(self, connection: Connection, messages: Sequence[int]) -> int:
        """Delete the messages that have no recipients left; no other message has none."""
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
    """Return a date as the database writes it, even if Python cannot represent it."""
    return (
        cast(date, Text).label(date.name) if dialect.name == "postgresql" else stored(date, dialect)
    )


def _literally(date: Any, dialect: Dialect) -> ColumnElement[Any]:
    """Return what `_exactly` has fetched as a value to compare dates with."""
    if dialect.name == "postgresql":
        return cast(literal(date, Text()), DateTime(timezone=True))
    return cast(literal(date), Text) if isinstance(date, bytes) else literal(date)


def _delete_blobs(engine: Engine, tables: Tables, before: datetime) -> int:
    """Delete the blobs that no attachment refers to, some at a time; return how many.

    An enqueue may refer to a blob again meanwhile. On SQLite it cannot: there is only one writer.
    On PostgreSQL both lock the blob first. A blob that the enqueue has locked is skipped. A
    reference that it committed after our first statement began is seen by the second, which runs
    under our lock. An enqueue that wants a blob we have locked waits, finds it deleted, and stores
    it again.
    """
    blob = tables.blob.c
    after, deleted = "", 0
    while True:
        batch = (
            select(blob.sha256)
            .where(blob.sha256 > after, blob.created_at < before, ~_is_named(tables))
            .order_by(blob.sha256)
            .limit(_BLOBS_A_TRANSACTION)
        )
        with write_transaction(engine) as connection:
            held = connection.scalars(batch.with_for_update(skip_locked=True)).all()
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
