"""The queue: claims due recipients for workers and records outcomes, one class per database."""

from __future__ import annotations

from sqlalchemy import Dialect

from postroom.errors import ConfigError
from postroom.storage.queue.postgresql import PostgresqlQueue
from postroom.storage.queue.records import QueueStore
from postroom.storage.queue.sqlite import SqliteQueue
from postroom.storage.tables import Tables


def queue_for(dialect: Dialect, tables: Tables) -> QueueStore:
    """Return the queue store for a database.

    Args:
        dialect: SQLite's or PostgreSQL's.
        tables: The outbox's tables.

    Raises:
        ConfigError: it is another database.
    """
    if dialect.name == "sqlite":
        return SqliteQueue(tables, dialect)
    if dialect.name == "postgresql":
        return PostgresqlQueue(tables, dialect)
    raise ConfigError(f"the database must be SQLite or PostgreSQL, not {dialect.name}")
