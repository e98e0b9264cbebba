"""What workers tell each other through the database: heartbeats, and PostgreSQL's NOTIFY.

A notification is only a wakeup: it may be lost, and polling finds the mail as well.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from postroom.storage.tables import Tables

#: The channel of PostgreSQL's NOTIFY: each transaction that enqueues sends one, without content.
CHANNEL = "postroom"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerIdentity:
    """A running worker.

    Attributes:
        id: A random id.
        host: The machine's name.
        pid: The process id.
        version: The version of Postroom.
        started_at: When it started.
    """

    id: str
    host: str
    pid: int
    version: str
    started_at: datetime


def record_heartbeat(
    connection: Connection, tables: Tables, worker: WorkerIdentity, now: datetime
) -> None:
    """Insert or update the worker's row with the time of this heartbeat.

    Args:
        connection: A connection in a write transaction.
        tables: The outbox's tables.
        worker: The worker.
        now: The time of the heartbeat.
    """
    table = tables.worker
    updated = connection.execute(
        table.update().where(table.c.id == worker.id).values(last_seen_at=now)
    )
    if updated.rowcount == 0:
        connection.execute(
            table.insert().values(
                id=worker.id,
                host=worker.host,
                pid=worker.pid,
                version=worker.version,
                started_at=worker.started_at,
                last_seen_at=now,
            )
        )


def deregister(connection: Connection, tables: Tables, worker: WorkerIdentity) -> None:
    """Delete the worker's row: it has stopped.

    Args:
        connection: A connection in a write transaction.
        tables: The outbox's tables.
        worker: The worker.
    """
    connection.execute(tables.worker.delete().where(tables.worker.c.id == worker.id))


def can_listen(engine: Engine) -> bool:
    """Return whether the database can notify us of commits by other processes."""
    return engine.dialect.name == "postgresql"


def listen(engine: Engine, timeout_s: float) -> Generator[bool, None, None]:
    """Yield True for each notification and False for each ``timeout_s`` without one.

    Ends when the connection does; the caller may start again. Through PgBouncer in transaction mode
    no notification ever arrives.

    Args:
        engine: A PostgreSQL database.
        timeout_s: Seconds to wait for one notification.
    """
    database = engine.dialect.dbapi
    assert database is not None
    try:
        # Detached: a connection that listens must not return to the pool.
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
