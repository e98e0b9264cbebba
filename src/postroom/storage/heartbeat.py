"""Workers' heartbeats: for people to look at, never for correctness."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from postroom.storage.models import Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """A worker and since when it works."""

    id: str
    host: str
    pid: int
    version: str
    started_at: datetime


def beat(connection: Connection, tables: Tables, heartbeat: Heartbeat, now: datetime) -> None:
    """Say that the worker lives."""
    table = tables.worker
    seen = connection.execute(table.update().where(table.c.id == heartbeat.id).values(seen_at=now))
    if seen.rowcount == 0:
        connection.execute(
            table.insert().values(
                id=heartbeat.id,
                host=heartbeat.host,
                pid=heartbeat.pid,
                version=heartbeat.version,
                started_at=heartbeat.started_at,
                seen_at=now,
            )
        )


def leave(connection: Connection, tables: Tables, heartbeat: Heartbeat) -> None:
    """Say that the worker has ended in order."""
    connection.execute(tables.worker.delete().where(tables.worker.c.id == heartbeat.id))
