"""INSERT ... ON CONFLICT, which SQLite and PostgreSQL spell alike and SQLAlchemy does not."""

from __future__ import annotations

from typing import TypeAlias

from sqlalchemy import Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite

from postroom.storage.engine import SessionOrConnection, dialect_of

Upsert: TypeAlias = postgresql.Insert | sqlite.Insert


def upsert(executor: SessionOrConnection, table: Table) -> Upsert:
    """Return an INSERT that takes ``on_conflict_do_update`` and ``excluded``."""
    return upsert_on(dialect_of(executor), table)


def upsert_on(dialect: Dialect, table: Table) -> Upsert:
    """Return the same, for a statement that is cached."""
    return sqlite.insert(table) if dialect.name == "sqlite" else postgresql.insert(table)
