"""Which ledger speaks to which database."""

from __future__ import annotations

from sqlalchemy import Dialect

from postroom.storage.ledger import Ledger
from postroom.storage.models import Tables
from postroom.storage.postgresql import PostgresqlLedger
from postroom.storage.sqlite import SqliteLedger
from postroom.values.errors import ConfigError


def ledger_for(dialect: Dialect, tables: Tables) -> Ledger:
    """Return the ledger for ``dialect``.

    Raises:
        ConfigError: a database other than SQLite and PostgreSQL.
    """
    if dialect.name == "sqlite":
        return SqliteLedger(tables, dialect)
    if dialect.name == "postgresql":
        return PostgresqlLedger(tables, dialect)
    raise ConfigError(f"expected the database to be sqlite or postgresql, got: {dialect.name}")
