"""How one message stands, recipient by recipient."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, Select, func, select

from postroom.storage.engine import Executor, dialect_of
from postroom.storage.leases import derived, is_leased
from postroom.storage.models import Tables
from postroom.values.errors import UnknownMessage
from postroom.values.states import Fault, Kind, Lane, RecipientState, message_state


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientStatus:
    """How one recipient stands.

    ``code``, ``enhanced_code`` and ``reply`` are what was said last. ``due_at`` is when the next
    attempt is due, or until when a worker holds it; None where nothing more will happen by
    itself. ``claims`` counts leases since the last outcome.
    """

    id: int
    address: str
    name: str
    kind: Kind
    state: RecipientState
    attempts: int
    code: int | None
    enhanced_code: str | None
    reply: str | None
    fault: Fault | None
    updated_at: datetime
    due_at: datetime | None
    claims: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStatus:
    """How one message stands; ``state`` is that of its least settled recipient.

    ``subject`` is as it was written: a template's source where each recipient gets its own.
    """

    id: int
    key: str | None
    subject: str
    sender: str
    lane: Lane
    state: RecipientState
    created_at: datetime
    not_before: datetime | None
    expires_at: datetime | None
    tags: tuple[str, ...]
    recipients: tuple[RecipientStatus, ...]


_SHOWN = (
    *("key", "subject", "templates", "sender", "lane", "created_at"),
    *("not_before", "expires_at", "tags"),
)

_SHOWN_OF_RECIPIENT = (
    *("id", "address", "name", "kind", "state", "attempts", "code", "enhanced_code"),
    *("reply", "fault", "updated_at"),
)


def is_waiting(executor: Executor, tables: Tables, message_id: int) -> bool:
    """Return whether anything is still to be done for a message, now or later.

    One look into an index, however many recipients there are.
    """
    queue = tables.queue.c
    waits = select(queue.recipient_id).where(queue.message_id == message_id).exists()
    return bool(executor.execute(select(waits)).scalar())


def status(executor: Executor, tables: Tables, message_id: int) -> MessageStatus:
    """Return how message ``message_id`` stands; two statements.

    Raises:
        UnknownMessage: there is none.
    """
    wanted = select(*(tables.message.c[name] for name in _SHOWN))
    row = executor.execute(wanted.where(tables.message.c.id == message_id)).one_or_none()
    if row is None:
        raise unknown(message_id)
    recipients = tuple(
        _recipient(found) for found in executor.execute(_recipients(executor, tables, message_id))
    )
    return MessageStatus(
        id=message_id,
        key=row.key,
        subject=subject_of(row),
        sender=row.sender,
        lane=Lane(row.lane),
        state=message_state(one.state for one in recipients),
        created_at=row.created_at,
        not_before=row.not_before,
        expires_at=row.expires_at,
        tags=tuple(row.tags or ()),
        recipients=recipients,
    )


def unknown(message_id: int) -> UnknownMessage:
    """Return the error for an id that stands for nothing."""
    return UnknownMessage(
        f"expected {message_id} to be the id of a message, got: no such message; "
        "it was pruned, rolled back, or is in another database"
    )


def subject_of(row: Any) -> str:
    """Return the subject of a message, or the source of its template."""
    template = (row.templates or {}).get("subject")
    if template is None:
        return row.subject or ""
    return str(template["sources"].get(template["entry"], template["entry"]))


def _recipients(executor: Executor, tables: Tables, message_id: int) -> Select[Any]:
    recipient, queue = tables.recipient, tables.queue
    return (
        select(
            *(recipient.c[name] for name in _SHOWN_OF_RECIPIENT),
            queue.c.due_at,
            func.coalesce(queue.c.claims, 0).label("claims"),
            func.coalesce(is_leased(tables, dialect_of(executor)), False).label("leased"),
        )
        .join_from(recipient, queue, queue.c.recipient_id == recipient.c.id, isouter=True)
        .where(recipient.c.message_id == message_id)
        .order_by(recipient.c.id)
    )


def _recipient(row: Row[Any]) -> RecipientStatus:
    return RecipientStatus(
        id=row.id,
        address=row.address,
        name=row.name,
        kind=Kind(row.kind),
        state=derived(row.state, leased=row.leased),
        attempts=row.attempts,
        code=row.code,
        enhanced_code=row.enhanced_code,
        reply=row.reply,
        fault=Fault(row.fault) if row.fault else None,
        updated_at=row.updated_at,
        due_at=_moment(row.due_at),
        claims=row.claims,
    )


def _moment(epoch_s: float | None) -> datetime | None:
    """Return the queue's time as a date."""
    return None if epoch_s is None else datetime.fromtimestamp(epoch_s, UTC)
