"""Which ledger speaks to which database."""

from __future__ import annotations

from sqlalchemy import Dialect

from postroom.errors import ConfigError
from postroom.storage.queue.postgresql import PostgresqlQueue
from postroom.storage.queue.records import QueueStore
from postroom.storage.queue.sqlite import SqliteQueue
from postroom.storage.tables import Tables


def queue_for(dialect: Dialect, tables: Tables) -> QueueStore:
    """Return the ledger for ``dialect``.

    Raises:
        ConfigError: a database other than SQLite and PostgreSQL.
    """
    if dialect.name == "sqlite":
        return SqliteQueue(tables, dialect)
    if dialect.name == "postgresql":
        return PostgresqlQueue(tables, dialect)
    raise ConfigError(f"expected the database to be sqlite or postgresql, got: {dialect.name}")
