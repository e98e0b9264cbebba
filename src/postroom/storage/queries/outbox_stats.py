"""How the outbox does as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, literal, select

from postroom.states import Fault, RecipientState
from postroom.storage.engine import SessionOrConnection, clock_sql, dialect_of
from postroom.storage.queue.conditions import effective_state, is_leased
from postroom.storage.row_decoding import (
    UnreadableDate,
    number_of,
    stored,
    sure_date_of,
    text_of,
    text_or_none,
)
from postroom.storage.tables import Tables, UtcDateTime

#: Attempts that are looked at first for those of the last minute; ten times as many next.
_LATEST = 1_000

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """A worker's heartbeat, which it writes every few seconds.

    Attributes:
        id: The worker's id, a UUID.
        host: The machine it runs on.
        pid: Its process.
        version: Its version of Postroom.
        started_at: When it started.
        last_seen_at: When the last heartbeat was written.
        seen_s: How many seconds ago that was.
    """

    id: str
    host: str
    pid: int
    version: str
    started_at: datetime
    last_seen_at: datetime
    seen_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStats:
    """How the outbox does as a whole.

    Attributes:
        by_state: How many recipients are in which state; states without any are left out.
        due: How many could be claimed at this moment.
        oldest_due_s: For how many seconds the oldest of them has been due.
        in_flight: How many a worker holds.
        accepted_last_minute: How many were accepted in the last minute.
        workers: The workers that have not stopped in order, the one seen last first.
        set_aside: How many of the rejected ended by a fault of ours: rows that cannot be read,
            workers that died over them. `Outbox.explain` says more.
    """

    by_state: Mapping[RecipientState, int]
    due: int
    oldest_due_s: float | None
    in_flight: int
    accepted_last_minute: int
    workers: tuple[WorkerStatus, ...]
    set_aside: int = 0


def stats(executor: SessionOrConnection, tables: Tables) -> OutboxStats:
    """Count everything; reads every recipient's state once, and no message."""
    queue = tables.queue.c
    clock = clock_sql(dialect_of(executor))
    now_s, due, oldest_s = executor.execute(
        select(clock, func.count(queue.due_at), func.min(queue.due_at)).where(queue.due_at <= clock)
    ).one()
    in_flight = _in_flight(executor, tables)
    now = datetime.fromtimestamp(now_s, UTC)
    by_state, set_aside = _by_state(executor, tables, in_flight)
    return OutboxStats(
        by_state=by_state,
        set_aside=set_aside,
        due=due,
        oldest_due_s=None if oldest_s is None else max(0.0, now_s - oldest_s),
        in_flight=sum(in_flight.values()),
        accepted_last_minute=_accepted_since(executor, tables, now - _MINUTE),
        workers=workers(executor, tables, now),
    )


def _in_flight(executor: SessionOrConnection, tables: Tables) -> dict[str, int]:
    """Count what workers hold by its stored state."""
    queue, recipient, dialect = tables.queue, tables.recipient, dialect_of(executor)
    held = (
        select(stored(recipient.c.state, dialect), func.count())
        .join_from(queue, recipient, recipient.c.id == queue.c.recipient_id)
        .where(is_leased(tables, dialect))
        .group_by(recipient.c.state)
    )
    return {text_of(state): number for state, number in executor.execute(held)}


def _by_state(
    executor: SessionOrConnection, tables: Tables, in_flight: Mapping[str, int]
) -> tuple[dict[RecipientState, int], int]:
    """Count by state, and those that were set aside."""
    recipient, dialect = tables.recipient.c, dialect_of(executor)
    columns = stored(recipient.state, dialect), stored(recipient.fault, dialect)
    counted = select(*columns, func.count()).group_by(recipient.state, recipient.fault)
    found: Counter[RecipientState] = Counter()
    set_aside = 0
    for text, fault, number in executor.execute(counted):
        state = effective_state(text_of(text), leased=False)
        found[state] += number
        if state is RecipientState.REJECTED and text_or_none(fault) == Fault.OURSELVES:
            set_aside += number
    for text, number in in_flight.items():
        found[effective_state(text, leased=False)] -= number
    found[RecipientState.SENDING] = sum(in_flight.values())
    odd = [state for state in found if state not in list(RecipientState)]
    by_state = {state: found[state] for state in (*RecipientState, *odd) if found[state] > 0}
    return by_state, set_aside


def _accepted_since(executor: SessionOrConnection, tables: Tables, since: datetime) -> int:
    """Count from the end of the attempts, which are appended in time: there is no index by date."""
    attempt = tables.attempt.c
    looked_at = _LATEST
    while True:
        latest = (
            select(attempt.attempted_at, attempt.outcome)
            .order_by(attempt.id.desc())
            .limit(looked_at)
        )
        rows = latest.subquery()
        is_accepted = (rows.c.attempted_at > since) & (
            rows.c.outcome == RecipientState.ACCEPTED.value
        )
        # The database compares: a date that Python does not have would not come out of it.
        reaches_back = func.min(rows.c.attempted_at) <= literal(since, UtcDateTime())
        number, reaches, accepted = executor.execute(
            select(func.count(), reaches_back, func.count().filter(is_accepted))
        ).one()
        if number < looked_at or reaches:
            return int(accepted)
        looked_at *= 10


def workers(
    executor: SessionOrConnection, tables: Tables, now: datetime
) -> tuple[WorkerStatus, ...]:
    """Return every worker that has not said goodbye, the one seen last first."""
    worker = tables.worker
    shown = [stored(column, dialect_of(executor)) for column in worker.c]
    rows = executor.execute(select(*shown).order_by(worker.c.last_seen_at.desc(), worker.c.id))
    return tuple(sorted((_worker(row, now) for row in rows), key=lambda one: one.seen_s))


def _worker(row: Row[Any], now: datetime) -> WorkerStatus:
    last_seen_at = sure_date_of(row.last_seen_at)
    since = (
        datetime.min.replace(tzinfo=UTC)
        if isinstance(last_seen_at, UnreadableDate)
        else last_seen_at
    )
    return WorkerStatus(
        id=text_of(row.id),
        host=text_of(row.host),
        pid=number_of(row.pid) or 0,
        version=text_of(row.version),
        started_at=sure_date_of(row.started_at),
        last_seen_at=last_seen_at,
        seen_s=max(0.0, (now - since).total_seconds()),
    )
