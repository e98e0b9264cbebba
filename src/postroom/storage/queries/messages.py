"""How one message stands, recipient by recipient."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, select

from postroom.storage.engine import Executor, dialect_of
from postroom.storage.leases import derived, is_leased
from postroom.storage.lenient import (
    date_of,
    member_of,
    moment_of,
    number_of,
    stored,
    subject_of,
    sure_date_of,
    tags_of,
    text_of,
    text_or_none,
)
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
        key=text_or_none(row.key),
        subject=subject_of(row.subject, row.templates),
        sender=text_of(row.sender),
        lane=member_of(Lane, row.lane),
        state=message_state(one.state for one in recipients),
        created_at=sure_date_of(row.created_at),
        not_before=date_of(row.not_before),
        expires_at=date_of(row.expires_at),
        tags=tags_of(row.tags),
        recipients=recipients,
    )


def unknown(message_id: int) -> UnknownMessage:
    """Return the error for an id that stands for nothing."""
    return UnknownMessage(
        f"expected {message_id} to be the id of a message, got: no such message; "
        "it was pruned, rolled back, or is in another database"
    )


def _recipients(executor: Executor, tables: Tables, message_id: int) -> Select[Any]:
    recipient, queue, dialect = tables.recipient, tables.queue, dialect_of(executor)
    shown = (*(recipient.c[name] for name in _SHOWN_OF_RECIPIENT), queue.c.due_at, queue.c.claims)
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
        kind=member_of(Kind, row.kind),
        state=derived(text_of(row.state), leased=row.leased),
        attempts=number_of(row.attempts) or 0,
        code=number_of(row.code),
        enhanced_code=text_or_none(row.enhanced_code),
        reply=text_or_none(row.reply),
        fault=member_of(Fault, row.fault) if row.fault else None,
        updated_at=sure_date_of(row.updated_at),
        due_at=moment_of(row.due_at),
        claims=number_of(row.claims) or 0,
    )
