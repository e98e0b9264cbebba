"""Conditions on the queue: whether a recipient is queued, due, unclaimed or held by a worker."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Dialect, and_, exists, or_, select

from postroom.states import RecipientState
from postroom.storage.engine import clock_sql
from postroom.storage.row_decoding import member_or_text
from postroom.storage.tables import Tables


def is_leased(tables: Tables, dialect: Dialect) -> ColumnElement[bool]:
    """Return a condition on rows of the queue: a worker holds the row now."""
    queue = tables.queue.c
    return and_(queue.lease_token.is_not(None), queue.due_at > clock_sql(dialect))


def is_unclaimed(tables: Tables, dialect: Dialect) -> ColumnElement[bool]:
    """Return a condition on rows of the queue: no worker holds the row, nor may have begun to send.

    A worker that committed its intent to send may have written the final dot, even if its lease has
    expired: the next claim decides what became of that mail.
    """
    queue = tables.queue.c
    return and_(
        or_(queue.lease_token.is_(None), queue.due_at <= clock_sql(dialect)),
        queue.send_intent.is_(False),
    )


def is_queued(tables: Tables) -> ColumnElement[bool]:
    """Return a condition on recipients: in the queue, whoever holds it."""
    queue = tables.queue.c
    return exists(select(queue.recipient_id).where(queue.recipient_id == tables.recipient.c.id))


def is_due(tables: Tables, dialect: Dialect) -> ColumnElement[bool]:
    """Return a condition on recipients: a worker may claim it now."""
    queue = tables.queue.c
    row = select(queue.recipient_id).where(queue.recipient_id == tables.recipient.c.id)
    return exists(row.where(queue.due_at <= clock_sql(dialect)))


def is_busy(tables: Tables, dialect: Dialect) -> ColumnElement[bool]:
    """Return a condition on recipients: in the queue and not unclaimed."""
    queue = tables.queue.c
    row = select(queue.recipient_id).where(queue.recipient_id == tables.recipient.c.id)
    return exists(row.where(~is_unclaimed(tables, dialect)))


def effective_state(state: str, *, leased: bool) -> RecipientState:
    """Return a recipient's state: the stored one, or ``sending`` while a worker holds it."""
    return RecipientState.SENDING if leased else member_or_text(RecipientState, state)
