"""PostgreSQL's NOTIFY, as the hint it is: it may be lost, and polling finds the mail as well."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from postroom.storage.tables import Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerIdentity:
    """A worker and since when it works."""

    id: str
    host: str
    pid: int
    version: str
    started_at: datetime


def record_heartbeat(
    connection: Connection, tables: Tables, heartbeat: WorkerIdentity, now: datetime
) -> None:
    """Say that the worker lives."""
    table = tables.worker
    seen = connection.execute(
        table.update().where(table.c.id == heartbeat.id).values(last_seen_at=now)
    )
    if seen.rowcount == 0:
        connection.execute(
            table.insert().values(
                id=heartbeat.id,
                host=heartbeat.host,
                pid=heartbeat.pid,
                version=heartbeat.version,
                started_at=heartbeat.started_at,
                last_seen_at=now,
            )
        )


def deregister(connection: Connection, tables: Tables, heartbeat: WorkerIdentity) -> None:
    """Say that the worker has ended in order."""
    connection.execute(tables.worker.delete().where(tables.worker.c.id == heartbeat.id))


#: The channel that enqueueing notifies, once a transaction.
CHANNEL = "postroom"


def can_listen(engine: Engine) -> bool:
    """Return whether the database can tell us of commits by other processes."""
    return engine.dialect.name == "postgresql"


def listen(engine: Engine, timeout_s: float) -> Generator[bool, None, None]:
    """Yield True for each notification and False for each ``timeout_s`` without one.

    Ends when the connection does; the caller may begin again. Through PgBouncer in transaction
    mode nothing ever arrives.
    """
    database = engine.dialect.dbapi
    assert database is not None
    try:
        # Detached: a connection that listens must not go back to the pool.
        with engine.connect() as connection:
            listener = connection.connection.driver_connection
            assert listener is not None
            connection.detach()
            listener.autocommit = True
            listener.execute(f"LISTEN {CHANNEL}")
            while True:
                yield any(True for _ in listener.notifies(timeout=timeout_s, stop_after=1))
    except (SQLAlchemyError, database.Error):
        return
