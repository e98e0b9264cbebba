"""The rows of the queue that a decision takes out or puts in, while workers claim others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Dialect, and_, case, delete, literal, or_, select

from postroom.storage.engine import Executor, clock_sql, dialect_of
from postroom.storage.leases import is_free
from postroom.storage.lenient import date_of, member_of
from postroom.storage.models import Tables
from postroom.storage.upsert import Upsert, upsert
from postroom.values.states import Lane
from postroom.values.unreadable import UnreadableDate

#: Bound values in one statement; SQLite and asyncpg stop at about 32,000.
_IDS_A_STATEMENT = 10_000


def waits_again(
    tables: Tables, recipients: ColumnElement[bool], dialect: Dialect
) -> ColumnElement[bool]:
    """Return the condition on a row of the queue: one of ``recipients``, and free."""
    queue, recipient = tables.queue.c, tables.recipient.c
    of_these = select(recipient.id).where(recipient.id == queue.recipient_id, recipients)
    return and_(of_these.exists(), is_free(tables, dialect))


def take_out(executor: Executor, tables: Tables, condition: ColumnElement[bool]) -> Sequence[int]:
    """Delete rows of the queue, but for those that are being claimed; return whose they were.

    They are locked first and then deleted by id: what the planner believes about the queue is
    too often out of date for it to join anything well.
    """
    queue = tables.queue.c
    unlocked = select(queue.recipient_id).where(condition).order_by(queue.recipient_id)
    ids = executor.execute(unlocked.with_for_update(skip_locked=True)).scalars().all()
    for some in portions(ids):
        executor.execute(delete(tables.queue).where(queue.recipient_id.in_(some)))
    return ids


def hold(executor: Executor, tables: Tables, recipients: Collection[int]) -> list[int]:
    """Keep workers off recipients until the transaction ends; return those that are free.

    Those are in no queue, or no worker holds them. One whose outcome is being written at this
    moment is not waited for: its worker may be waiting for what this transaction holds.
    """
    queue = tables.queue.c
    free: list[int] = []
    for ids in portions(sorted(recipients)):
        of_these = select(queue.recipient_id).where(queue.recipient_id.in_(ids))
        queued = set(executor.execute(of_these).scalars())
        unheld = of_these.where(is_free(tables, dialect_of(executor)))
        unheld = unheld.order_by(queue.recipient_id).with_for_update(skip_locked=True)
        held = set(executor.execute(unheld).scalars())
        free += [one for one in ids if one in held or one not in queued]
    return free


def put_in(
    executor: Executor, tables: Tables, message: Any, recipients: Collection[int]
) -> list[int]:
    """Make recipients due, whether or not they are in the queue; return those that were not.

    ``message`` has ``lane`` and ``not_before`` as `postroom.storage.lenient.stored` fetches them.

    Left alone is one that a worker has claimed meanwhile, and one that is due already.
    """
    clock = clock_sql(dialect_of(executor))
    not_before = literal(_seconds(date_of(message.not_before)))
    due_at = case((not_before > clock, not_before), else_=clock)
    asked = member_of(Lane, message.lane)
    lane = literal((asked if asked in list(Lane) else Lane.NORMAL).rank)
    columns = ["recipient_id", "message_id", "lane", "due_at"]
    changed: list[int] = []
    for ids in portions(sorted(recipients)):
        recipient = tables.recipient.c
        rows = select(recipient.id, recipient.message_id, lane, due_at).where(recipient.id.in_(ids))
        insertion = upsert(executor, tables.queue).from_select(columns, rows.order_by(recipient.id))
        queued = executor.execute(_or_hasten(insertion, tables, executor))
        changed.extend(queued.scalars())
    return changed


def _seconds(not_before: datetime | None) -> float:
    """Return when it is due at the earliest; what is no date does not hold it up."""
    if not_before is None or isinstance(not_before, UnreadableDate):
        return 0.0
    return not_before.timestamp()


def _or_hasten(insertion: Upsert, tables: Tables, executor: Executor) -> Any:
    queued, asked = tables.queue.c, insertion.excluded
    anew = {"token": None, "claims": 0, "tries": 0, "due_at": asked.due_at, "lane": asked.lane}
    is_later = or_(queued.due_at > asked.due_at, queued.lane != asked.lane)
    return insertion.on_conflict_do_update(
        index_elements=["recipient_id"],
        set_=anew,
        where=and_(is_free(tables, dialect_of(executor)), is_later),
    ).returning(tables.queue.c.recipient_id)


def portions(ids: Iterable[int]) -> Iterator[tuple[int, ...]]:
    """Yield ``ids`` as many at a time as one statement takes."""
    left = iter(ids)
    while portion := tuple(islice(left, _IDS_A_STATEMENT)):
        yield portion
