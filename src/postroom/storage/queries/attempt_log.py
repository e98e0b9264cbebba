"""What was tried for one message, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select

from postroom.storage.engine import Executor, dialect_of
from postroom.storage.lenient import (
    member_of,
    number_of,
    seconds_of,
    stored,
    sure_date_of,
    text_of,
    text_or_none,
)
from postroom.storage.models import Tables
from postroom.values.states import Fault, Phase, RecipientState


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt for one recipient, by its id; ``outcome`` is the state that it led to.

    ``transcript`` is the conversation, without credentials and content, where it failed.
    """

    recipient: int
    address: str
    at: datetime
    relay: str
    phase: Phase | None
    code: int | None
    enhanced_code: str | None
    reply: str | None
    outcome: RecipientState
    fault: Fault | None
    duration_s: float | None
    transcript: str | None


def attempts(executor: Executor, tables: Tables, message_id: int) -> tuple[AttemptRecord, ...]:
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


def _record(row: Row[Any]) -> AttemptRecord:
    return AttemptRecord(
        recipient=row.recipient_id,
        address=text_of(row.address),
        at=sure_date_of(row.at),
        relay=text_of(row.relay),
        phase=member_of(Phase, row.phase) if row.phase else None,
        code=number_of(row.code),
        enhanced_code=text_or_none(row.enhanced_code),
        reply=text_or_none(row.reply),
        outcome=member_of(RecipientState, row.outcome),
        fault=member_of(Fault, row.fault) if row.fault else None,
        duration_s=seconds_of(row.duration_s),
        transcript=text_or_none(row.transcript),
    )
