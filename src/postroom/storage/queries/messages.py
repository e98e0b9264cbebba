"""How one message stands, recipient by recipient."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select

from postroom.errors import UnknownMessage
from postroom.states import Fault, Lane, Phase, RecipientState, RecipientType, message_state
from postroom.storage.engine import SessionOrConnection, dialect_of
from postroom.storage.queue.conditions import effective_state, is_leased
from postroom.storage.row_decoding import (
    date_of,
    member_of,
    moment_of,
    number_of,
    seconds_of,
    stored,
    subject_of,
    sure_date_of,
    tags_of,
    text_of,
    text_or_none,
)
from postroom.storage.tables import Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientStatus:
    """The status of one recipient.

    Attributes:
        id: The recipient's id.
        address: Their address.
        name: Their display name; empty where there is none.
        type: Whether they are in To, in Cc, or in the envelope only.
        state: Their state.
        attempt_count: How often it was tried to deliver to them.
        reply_code: The last reply's code, like 250.
        enhanced_status: The last reply's enhanced status code (RFC 3463), like ``5.1.1``.
        reply: The last reply, or what a worker said about it.
        fault: Whose fault the last failure was.
        updated_at: When this last changed.
        due_at: When the next attempt is due, or until when a worker holds it; None where nothing
            more will happen by itself.
        claim_count: How often workers have claimed it since the last outcome.
    """

    id: int
    address: str
    name: str
    type: RecipientType
    state: RecipientState
    attempt_count: int
    reply_code: int | None
    enhanced_status: str | None
    reply: str | None
    fault: Fault | None
    updated_at: datetime
    due_at: datetime | None
    claim_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStatus:
    """The status of one message.

    Attributes:
        id: The message's id.
        idempotency_key: The key it was enqueued with, if any.
        subject: As it was written: a template's source where each recipient gets its own.
        sender: The sender, as text.
        lane: The lane it waits in.
        state: The state of its least settled recipient.
        created_at: When it was enqueued.
        scheduled_at: Not sent before this time.
        expires_at: Not sent after this time.
        tags: Its tags.
        recipients: The status of each recipient.
    """

    id: int
    idempotency_key: str | None
    subject: str
    sender: str
    lane: Lane
    state: RecipientState
    created_at: datetime
    scheduled_at: datetime | None
    expires_at: datetime | None
    tags: tuple[str, ...]
    recipients: tuple[RecipientStatus, ...]


_SHOWN = (
    *("idempotency_key", "subject", "templates", "sender", "lane", "created_at"),
    *("scheduled_at", "expires_at", "tags"),
)

_SHOWN_OF_RECIPIENT = (
    *("id", "address", "name", "type", "state", "attempt_count", "reply_code", "enhanced_status"),
    *("reply", "fault", "updated_at"),
)


def is_waiting(executor: SessionOrConnection, tables: Tables, message_id: int) -> bool:
    """Return whether anything is still to be done for a message, now or later.

    One look into an index, however many recipients there are.
    """
    queue = tables.queue.c
    waits = select(queue.recipient_id).where(queue.message_id == message_id).exists()
    return bool(executor.execute(select(waits)).scalar())


def status(executor: SessionOrConnection, tables: Tables, message_id: int) -> MessageStatus:
    """Return how message ``message_id`` stands; two statements.

    Raises:
        UnknownMessage: there is none.
    """
    dialect = dialect_of(executor)
    wanted = select(*(stored(tables.message.c[name], dialect) for name in _SHOWN))
    row = executor.execute(wanted.where(tables.message.c.id == message_id)).one_or_none()
    if row is None:
        raise unknown(message_id)
    recipients = tuple(
        _recipient(found) for found in executor.execute(_recipients(executor, tables, message_id))
    )
    return MessageStatus(
        id=message_id,
        idempotency_key=text_or_none(row.idempotency_key),
        subject=subject_of(row.subject, row.templates),
        sender=text_of(row.sender),
        lane=member_of(Lane, row.lane),
        state=message_state(one.state for one in recipients),
        created_at=sure_date_of(row.created_at),
        scheduled_at=date_of(row.scheduled_at),
        expires_at=date_of(row.expires_at),
        tags=tags_of(row.tags),
        recipients=recipients,
    )


def unknown(message_id: int) -> UnknownMessage:
    """Return the error for an id that stands for nothing."""
    return UnknownMessage(
        f"there is no message {message_id}: it was pruned, rolled back, or is in another database"
    )


def _recipients(executor: SessionOrConnection, tables: Tables, message_id: int) -> Select[Any]:
    recipient, queue, dialect = tables.recipient, tables.queue, dialect_of(executor)
    shown = (
        *(recipient.c[name] for name in _SHOWN_OF_RECIPIENT),
        queue.c.due_at,
        queue.c.claim_count,
    )
    return (
        select(
            *(stored(column, dialect) for column in shown),
            func.coalesce(is_leased(tables, dialect), False).label("leased"),
        )
        .join_from(recipient, queue, queue.c.recipient_id == recipient.c.id, isouter=True)
        .where(recipient.c.message_id == message_id)
        .order_by(recipient.c.id)
    )


def _recipient(row: Row[Any]) -> RecipientStatus:
    return RecipientStatus(
        id=row.id,
        address=text_of(row.address),
        name=text_of(row.name),
        type=member_of(RecipientType, row.type),
        state=effective_state(text_of(row.state), leased=row.leased),
        attempt_count=number_of(row.attempt_count) or 0,
        reply_code=number_of(row.reply_code),
        enhanced_status=text_or_none(row.enhanced_status),
        reply=text_or_none(row.reply),
        fault=member_of(Fault, row.fault) if row.fault else None,
        updated_at=sure_date_of(row.updated_at),
        due_at=moment_of(row.due_at),
        claim_count=number_of(row.claim_count) or 0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt to deliver to one recipient.

    Attributes:
        recipient_id: The recipient's id.
        address: Their address.
        attempted_at: When it was made.
        relay: The name of the relay.
        phase: Where in the conversation it ended, if it failed there.
        reply_code: The reply's code, like 250.
        enhanced_status: The reply's enhanced status code (RFC 3463), like ``5.1.1``.
        reply: The reply, or what a worker said about it.
        outcome: The state that it led to.
        fault: Whose fault the failure was.
        duration_s: How many seconds it took.
        transcript: The conversation, without credentials and content, where it failed.
    """

    recipient_id: int
    address: str
    attempted_at: datetime
    relay: str
    phase: Phase | None
    reply_code: int | None
    enhanced_status: str | None
    reply: str | None
    outcome: RecipientState
    fault: Fault | None
    duration_s: float | None
    transcript: str | None


def attempts(executor: SessionOrConnection, tables: Tables, message_id: int) -> tuple[Attempt, ...]:
    """Return every attempt for message ``message_id``, in the order they were recorded."""
    attempt, recipient = tables.attempt, tables.recipient
    shown = [stored(column, dialect_of(executor)) for column in (*attempt.c, recipient.c.address)]
    wanted = (
        select(*shown)
        .join_from(attempt, recipient, recipient.c.id == attempt.c.recipient_id)
        .where(recipient.c.message_id == message_id)
        .order_by(attempt.c.id)
    )
    return tuple(_record(row) for row in executor.execute(wanted))


def _record(row: Row[Any]) -> Attempt:
    return Attempt(
        recipient_id=row.recipient_id,
        address=text_of(row.address),
        attempted_at=sure_date_of(row.attempted_at),
        relay=text_of(row.relay),
        phase=member_of(Phase, row.phase) if row.phase else None,
        reply_code=number_of(row.reply_code),
        enhanced_status=text_or_none(row.enhanced_status),
        reply=text_or_none(row.reply),
        outcome=member_of(RecipientState, row.outcome),
        fault=member_of(Fault, row.fault) if row.fault else None,
        duration_s=seconds_of(row.duration_s),
        transcript=text_or_none(row.transcript),
    )
