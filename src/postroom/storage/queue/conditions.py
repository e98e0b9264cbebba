"""What the queue says about a recipient: whether it waits, and whether a worker holds it."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Dialect, and_, exists, or_, select

from postroom.states import RecipientState
from postroom.storage.engine import clock_sql
from postroom.storage.row_decoding import member_or_text
from postroom.storage.tables import Tables


def is_leased(tables: Tables, dialect: Dialect) -> ColumnElement[bool]:
    """Return the condition on a row of the queue: a worker holds it at this moment."""
    queue = tables.queue.c
    return and_(queue.lease_token.is_not(None), queue.due_at > clock_sql(dialect))


def is_unclaimed(tables: Tables, dialect: Dialect) -> ColumnElement[bool]:
    """Return the condition on a row of the queue: nobody holds it, nor may have begun to send.

    A worker that committed its intent to write the final dot may have done so, even where its
    lease has run out: what became of that mail is for the next claim to say.
    """
    queue = tables.queue.c
    return and_(
        or_(queue.lease_token.is_(None), queue.due_at <= clock_sql(dialect)),
        queue.send_intent.is_(False),
    )


def is_queued(tables: Tables) -> ColumnElement[bool]:
    """Return the condition on a recipient: it is in the queue, whoever holds it."""
    queue = tables.queue.c
    return exists(select(queue.recipient_id).where(queue.recipient_id == tables.recipient.c.id))


def is_due(tables: Tables, dialect: Dialect) -> ColumnElement[bool]:
    """Return the condition on a recipient: a worker may claim it now."""
    queue = tables.queue.c
    row = select(queue.recipient_id).where(queue.recipient_id == tables.recipient.c.id)
    return exists(row.where(queue.due_at <= clock_sql(dialect)))


def is_busy(tables: Tables, dialect: Dialect) -> ColumnElement[bool]:
    """Return the condition on a recipient: it is in the queue and not free."""
    queue = tables.queue.c
    row = select(queue.recipient_id).where(queue.recipient_id == tables.recipient.c.id)
    return exists(row.where(~is_unclaimed(tables, dialect)))


def effective_state(state: str, *, leased: bool) -> RecipientState:
    """Return a recipient's state: the stored one, or ``sending`` while a worker holds it."""
    return RecipientState.SENDING if leased else member_or_text(RecipientState, state)
