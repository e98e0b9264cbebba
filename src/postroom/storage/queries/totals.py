"""How the outbox does as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from postroom.storage.engine import Executor, clock_sql, dialect_of
from postroom.storage.leases import is_leased
from postroom.storage.models import Tables
from postroom.values.states import RecipientState

#: Attempts that are looked at first for those of the last minute; ten times as many next.
_LATEST = 1_000

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """A worker's heartbeat; it beats every few seconds. ``seen_s`` is how long ago the last was."""

    id: str
    host: str
    pid: int
    version: str
    started_at: datetime
    seen_at: datetime
    seen_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Recipients by state, and what is going on.

    ``due`` recipients could be claimed at this moment, the oldest of them for ``oldest_due_s``
    already; ``in_flight`` are held by a worker.
    """

    by_state: Mapping[RecipientState, int]
    due: int
    oldest_due_s: float | None
    in_flight: int
    accepted_last_minute: int
    workers: tuple[WorkerStatus, ...]


def counts(executor: Executor, tables: Tables) -> Counts:
    """Count everything; reads every recipient's state once, and no message."""
    queue = tables.queue.c
    clock = clock_sql(dialect_of(executor))
    now_s, due, oldest_s = executor.execute(
        select(clock, func.count(queue.due_at), func.min(queue.due_at)).where(queue.due_at <= clock)
    ).one()
    in_flight = _in_flight(executor, tables)
    now = datetime.fromtimestamp(now_s, UTC)
    return Counts(
        by_state=_by_state(executor, tables, in_flight),
        due=due,
        oldest_due_s=None if oldest_s is None else max(0.0, now_s - oldest_s),
        in_flight=sum(in_flight.values()),
        accepted_last_minute=_accepted_since(executor, tables, now - _MINUTE),
        workers=workers(executor, tables, now),
    )


def _in_flight(executor: Executor, tables: Tables) -> dict[str, int]:
    """Count what workers hold by its stored state."""
    queue, recipient = tables.queue, tables.recipient
    held = (
        select(recipient.c.state, func.count())
        .join_from(queue, recipient, recipient.c.id == queue.c.recipient_id)
        .where(is_leased(tables, dialect_of(executor)))
        .group_by(recipient.c.state)
    )
    return {row[0]: row[1] for row in executor.execute(held)}


def _by_state(
    executor: Executor, tables: Tables, in_flight: Mapping[str, int]
) -> dict[RecipientState, int]:
    state = tables.recipient.c.state
    found = {
        RecipientState(stored): number - in_flight.get(stored, 0)
        for stored, number in executor.execute(select(state, func.count()).group_by(state))
    }
    found[RecipientState.SENDING] = sum(in_flight.values())
    return {state: found[state] for state in RecipientState if found.get(state, 0) > 0}


def _accepted_since(executor: Executor, tables: Tables, since: datetime) -> int:
    """Count from the end of the attempts, which are appended in time: there is no index by date."""
    attempt = tables.attempt.c
    looked_at = _LATEST
    while True:
        latest = select(attempt.at, attempt.outcome).order_by(attempt.id.desc()).limit(looked_at)
        rows = latest.subquery()
        is_accepted = (rows.c.at > since) & (rows.c.outcome == RecipientState.ACCEPTED.value)
        number, oldest, accepted = executor.execute(
            select(func.count(), func.min(rows.c.at), func.count().filter(is_accepted))
        ).one()
        if number < looked_at or oldest <= since:
            return int(accepted)
        looked_at *= 10


def workers(executor: Executor, tables: Tables, now: datetime) -> tuple[WorkerStatus, ...]:
    """Return every worker that has not said goodbye, the one seen last first."""
    worker = tables.worker
    rows = executor.execute(select(worker).order_by(worker.c.seen_at.desc(), worker.c.id))
    return tuple(
        WorkerStatus(
            id=row.id,
            host=row.host,
            pid=row.pid,
            version=row.version,
            started_at=row.started_at,
            seen_at=row.seen_at,
            seen_s=max(0.0, (now - row.seen_at).total_seconds()),
        )
        for row in rows
    )
