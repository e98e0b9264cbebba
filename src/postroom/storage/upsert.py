"""INSERT ... ON CONFLICT, which SQLite and PostgreSQL spell alike and SQLAlchemy does not."""

from __future__ import annotations

from typing import TypeAlias

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

from postroom.storage.engine import Executor, dialect_of

Upsert: TypeAlias = postgresql.Insert | sqlite.Insert


def upsert(executor: Executor, table: Table) -> Upsert:
    """Return an INSERT that takes ``on_conflict_do_update`` and ``excluded``."""
    if dialect_of(executor).name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)
