"""The tables of the first release."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from postroom.storage.schema import set_storage_parameters

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create every table."""
    # The only schema that our own history is about; see env.py.
    schema = op.get_context().version_table_schema
    _messages(schema)
    _recipients(schema)
    _queue(schema)
    _attempts(schema)
    _attachments(schema)
    _suppressions_and_workers(schema)
    set_storage_parameters(op.get_bind(), schema)


def _in(schema: str | None, target: str) -> str:
    return f"{schema}.{target}" if schema else target


def _messages(schema: str | None) -> None:
    op.create_table(
        "postroom_message",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("idempotency_key", sa.String(255), unique=True),
        sa.Column("content_hash", sa.String(64), nullable=False),
        sa.Column("message_id_seed", sa.String(32), nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("envelope_sender", sa.Text),
        sa.Column("reply_to", _JSON),
        sa.Column("subject", sa.Text),
        sa.Column("text", sa.Text),
        sa.Column("html", sa.Text),
        sa.Column("templates", _JSON),
        sa.Column("headers", _JSON),
        sa.Column("dsn", _JSON),
        sa.Column("lane", sa.String(8), nullable=False),
        sa.Column("relay", sa.String(64)),
        sa.Column("shared", sa.Boolean, nullable=False),
        sa.Column("on_doubt", sa.String(8), nullable=False),
        sa.Column("retry_delays_s", _JSON),
        sa.Column("scheduled_at", _TIME),
        sa.Column("expires_at", _TIME),
        sa.Column("tags", _JSON),
        sa.Column("created_at", _TIME, nullable=False, index=True),
        schema=schema,
        sqlite_autoincrement=True,  # or ids of deleted rows are used again
    )


def _recipients(schema: str | None) -> None:
    op.create_table(
        "postroom_recipient",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("address_key", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False, server_default=""),
        sa.Column("type", sa.String(3), nullable=False),
        sa.Column("user_ref", sa.Text),
        sa.Column("variables", _JSON),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("attempt_count", sa.Integer, nullable=False, server_default="0"),
        sa.Column("reply_code", sa.SmallInteger),
        sa.Column("enhanced_status", sa.String(12)),
        sa.Column("reply", sa.Text),
        sa.Column("fault", sa.String(12)),
        sa.Column("updated_at", _TIME, nullable=False),
        sa.UniqueConstraint("message_id", "address_key"),
        sa.Index("postroom_recipient_address_key", "address_key"),
        schema=schema,
        sqlite_autoincrement=True,  # or ids of deleted rows are used again
    )


def _queue(schema: str | None) -> None:
    op.create_table(
        "postroom_queue",
        sa.Column("recipient_id", _ID, primary_key=True, autoincrement=False),
        sa.Column("message_id", _ID, nullable=False),
        sa.Column("lane", sa.SmallInteger, nullable=False),
        sa.Column("due_at", sa.Double, nullable=False),
        sa.Column("lease_token", sa.BigInteger),
        sa.Column("claim_count", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("try_count", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("send_intent", sa.Boolean, nullable=False, server_default="0"),
        sa.Index("postroom_queue_due", "lane", "due_at", "recipient_id"),
        sa.Index("postroom_queue_message", "message_id"),
        schema=schema,
    )


def _attempts(schema: str | None) -> None:
    op.create_table(
        "postroom_attempt",
        sa.Column("id", _ID, primary_key=True, autoincrement=True),
        sa.Column("recipient_id", _ID, nullable=False, index=True),
        sa.Column("attempted_at", _TIME, nullable=False),
        sa.Column("relay", sa.String(64), nullable=False),
        sa.Column("phase", sa.String(8)),
        sa.Column("reply_code", sa.SmallInteger),
        sa.Column("enhanced_status", sa.String(12)),
        sa.Column("reply", sa.Text),
        sa.Column("outcome", sa.String(10), nullable=False),
        sa.Column("fault", sa.String(12)),
        sa.Column("duration_s", sa.Double),
        sa.Column("transcript", sa.Text),
        schema=schema,
    )


def _attachments(schema: str | None) -> None:
    op.create_table(
        "postroom_blob",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        schema=schema,
    )
    blob = _in(schema, "postroom_blob.sha256")
    of_blob = sa.ForeignKey(blob, ondelete="CASCADE")
    op.create_table(
        "postroom_blob_chunk",
        sa.Column("sha256", sa.String(64), of_blob, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("data", sa.LargeBinary, nullable=False),
        schema=schema,
    )
    of_message = sa.ForeignKey(_in(schema, "postroom_message.id"), ondelete="CASCADE")
    op.create_table(
        "postroom_attachment",
        sa.Column("message_id", _ID, of_message, primary_key=True),
        sa.Column("position", sa.SmallInteger, primary_key=True),
        sa.Column("filename", sa.Text, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("disposition", sa.String(11), nullable=False),
        sa.Column("content_id", sa.Text),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), sa.ForeignKey(blob), nullable=False, index=True),
        schema=schema,
    )


def _suppressions_and_workers(schema: str | None) -> None:
    op.create_table(
        "postroom_suppression",
        sa.Column("address_key", sa.Text, primary_key=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        schema=schema,
    )
    op.create_table(
        "postroom_worker",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("version", sa.String(32), nullable=False),
        sa.Column("started_at", _TIME, nullable=False),
        sa.Column("last_seen_at", _TIME, nullable=False),
        schema=schema,
    )
