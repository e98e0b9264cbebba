"""The tables. Nothing outside ``storage/`` names one.

They are Core tables with their own ``MetaData``: an application can merge them into its own Alembic
history, or leave them to ours.

The id of a deleted message or recipient is never reused: a worker, a log or a Message-ID may still
name it. PostgreSQL's sequences guarantee that; SQLite does so only in tables with AUTOINCREMENT.
(Nothing names an attempt, and there it would cost 1 us for each mail.)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator

PREFIX = "postroom_"

#: SQLite assigns ids only in a column of exactly the type INTEGER.
_Id = BigInteger().with_variant(Integer(), "sqlite")

_Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

#: Size of a blob chunk, and the most of an attachment that is read or written at a time.
CHUNK_BYTES = 256 * 1024


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, stored as UTC on databases without time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive datetimes; give the driver UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a datetime must have a time zone: {value!r}")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Return an aware datetime in UTC."""
        if value is None:
            return None
        stored: datetime = value
        return stored.replace(tzinfo=UTC) if stored.tzinfo is None else stored.astimezone(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables of one outbox, in one database schema.

    Attributes:
        metadata: Has all of them.
        message: Content and options; immutable once enqueued.
        recipient: Who a message goes to, and the outcome.
        queue: One row for each recipient that is not finished.
        attempt: One row for each delivery attempt.
        blob: Hash and size of each attachment's content.
        blob_chunk: The content, in chunks of 256 KiB.
        attachment: Which message has which blob, under what name.
        suppression: Addresses that get no mail.
        worker: Heartbeats of workers.
    """

    metadata: MetaData
    message: Table
    recipient: Table
    queue: Table
    attempt: Table
    blob: Table
    blob_chunk: Table
    attachment: Table
    suppression: Table
    worker: Table


@cache
def tables(schema: str | None = None) -> Tables:
    """Return the tables in ``schema`` (None for the connection's default)."""
    metadata = MetaData(schema=schema)
    return Tables(
        metadata=metadata,
        message=_message(metadata),
        recipient=_recipient(metadata),
        queue=_queue(metadata),
        attempt=_attempt(metadata),
        blob=_blob(metadata),
        blob_chunk=_blob_chunk(metadata),
        attachment=_attachment(metadata),
        suppression=_suppression(metadata),
        worker=_worker(metadata),
    )


def _message(metadata: MetaData) -> Table:
    """Immutable once enqueued. The literal column of a templated field is NULL."""
    return Table(
        PREFIX + "message",
        metadata,
        Column("id", _Id, primary_key=True, autoincrement=True),
        Column("idempotency_key", String(255), unique=True),
        Column("content_hash", String(64), nullable=False),
        # Random; Message-IDs are derived from it, so that a retry has the same Message-ID.
        Column("message_id_seed", String(32), nullable=False),
        Column("sender", Text, nullable=False),
        Column("envelope_sender", Text),
        Column("reply_to", _Json),
        Column("subject", Text),
        Column("text", Text),
        Column("html", Text),
        # {"subject"|"text"|"html": FrozenTemplate as JSON}: rendered at delivery.
        Column("templates", _Json),
        Column("headers", _Json),
        Column("dsn", _Json),
        Column("lane", String(8), nullable=False),
        Column("relay", String(64)),
        Column("shared", Boolean, nullable=False),
        Column("on_doubt", String(8), nullable=False),
        # Seconds between tries, if the message has a schedule of its own.
        Column("retry_delays_s", _Json),
        Column("scheduled_at", UtcDateTime),
        Column("expires_at", UtcDateTime),
        Column("tags", _Json),
        Column("created_at", UtcDateTime, nullable=False, index=True),
        sqlite_autoincrement=True,
    )


def _recipient(metadata: MetaData) -> Table:
    """Who a message goes to, and the outcome.

    No foreign key to the message: one transaction inserts both, a message is pruned after its
    recipients, and the check was a third of an enqueue on PostgreSQL.
    """
    return Table(
        PREFIX + "recipient",
        metadata,
        Column("id", _Id, primary_key=True, autoincrement=True),
        Column("message_id", _Id, nullable=False),
        Column("address", Text, nullable=False),
        Column("address_key", Text, nullable=False),
        Column("name", Text, nullable=False, server_default=""),
        Column("type", String(3), nullable=False),
        Column("user_ref", Text),
        Column("variables", _Json),
        # Never "sending": that is derived from a lease in the queue.
        Column("state", String(10), nullable=False),
        Column("attempt_count", Integer, nullable=False, server_default="0"),
        Column("reply_code", SmallInteger),
        Column("enhanced_status", String(12)),
        Column("reply", Text),
        Column("fault", String(12)),
        Column("updated_at", UtcDateTime, nullable=False),
        UniqueConstraint("message_id", "address_key"),
        Index(PREFIX + "recipient_address_key", "address_key"),
        sqlite_autoincrement=True,
    )


def _queue(metadata: MetaData) -> Table:
    """Narrow and hot: one row for each recipient that is not finished.

    ``due_at`` is both "when to try next" and "leased until", in seconds since the epoch by the
    database's clock. ``lease_token`` is set while a worker holds the row. No foreign keys: every
    statement on this table names the recipient it means, and the checks would cost as much as the
    work itself.
    """
    return Table(
        PREFIX + "queue",
        metadata,
        Column("recipient_id", _Id, primary_key=True, autoincrement=False),
        Column("message_id", _Id, nullable=False),
        Column("lane", SmallInteger, nullable=False),
        Column("due_at", Double, nullable=False),
        Column("lease_token", BigInteger),
        # Claims since the last outcome; a row claimed too often without one is set aside.
        Column("claim_count", SmallInteger, nullable=False, server_default="0"),
        # Deferrals that count against the retry schedule.
        Column("try_count", SmallInteger, nullable=False, server_default="0"),
        # on_doubt="hold": committed before the final dot, so that a crash cannot resend.
        Column("send_intent", Boolean, nullable=False, server_default="0"),
        Index(PREFIX + "queue_due", "lane", "due_at", "recipient_id"),
        Index(PREFIX + "queue_message", "message_id"),
    )


def _attempt(metadata: MetaData) -> Table:
    """Append-only: what happened, each time."""
    return Table(
        PREFIX + "attempt",
        metadata,
        Column("id", _Id, primary_key=True, autoincrement=True),
        Column("recipient_id", _Id, nullable=False, index=True),
        Column("attempted_at", UtcDateTime, nullable=False),
        Column("relay", String(64), nullable=False),
        Column("phase", String(8)),
        Column("reply_code", SmallInteger),
        Column("enhanced_status", String(12)),
        Column("reply", Text),
        Column("outcome", String(10), nullable=False),
        Column("fault", String(12)),
        Column("duration_s", Double),
        Column("transcript", Text),
    )


def _blob(metadata: MetaData) -> Table:
    return Table(
        PREFIX + "blob",
        metadata,
        Column("sha256", String(64), primary_key=True),
        Column("size_bytes", BigInteger, nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
    )


def _blob_chunk(metadata: MetaData) -> Table:
    return Table(
        PREFIX + "blob_chunk",
        metadata,
        Column(
            "sha256",
            String(64),
            ForeignKey(_name(metadata, "blob.sha256"), ondelete="CASCADE"),
            primary_key=True,
        ),
        Column("position", Integer, primary_key=True),
        Column("data", LargeBinary, nullable=False),
    )


def _attachment(metadata: MetaData) -> Table:
    return Table(
        PREFIX + "attachment",
        metadata,
        Column(
            "message_id",
            _Id,
            ForeignKey(_name(metadata, "message.id"), ondelete="CASCADE"),
            primary_key=True,
        ),
        Column("position", SmallInteger, primary_key=True),
        Column("filename", Text, nullable=False),
        Column("content_type", Text, nullable=False),
        # "attachment", "inline" (related to the HTML) or "alternative" (a calendar invitation).
        Column("disposition", String(11), nullable=False),
        Column("content_id", Text),
        Column("size_bytes", BigInteger, nullable=False),
        Column(
            "sha256",
            String(64),
            ForeignKey(_name(metadata, "blob.sha256")),
            nullable=False,
            index=True,
        ),
    )


def _suppression(metadata: MetaData) -> Table:
    return Table(
        PREFIX + "suppression",
        metadata,
        Column("address_key", Text, primary_key=True),
        Column("reason", Text, nullable=False),
        Column("created_at", UtcDateTime, nullable=False),
    )


def _worker(metadata: MetaData) -> Table:
    """Heartbeats, for people to look at; correctness never depends on them."""
    return Table(
        PREFIX + "worker",
        metadata,
        Column("id", String(36), primary_key=True),
        Column("host", Text, nullable=False),
        Column("pid", Integer, nullable=False),
        Column("version", String(32), nullable=False),
        Column("started_at", UtcDateTime, nullable=False),
        Column("last_seen_at", UtcDateTime, nullable=False),
    )


def _name(metadata: MetaData, target: str) -> str:
    schema = f"{metadata.schema}." if metadata.schema else ""
    return f"{schema}{PREFIX}{target}"
