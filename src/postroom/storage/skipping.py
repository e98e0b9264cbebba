"""An INSERT that leaves alone what another transaction has stored, on either database."""

from __future__ import annotations

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_or_skip(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return ``INSERT ... ON CONFLICT DO NOTHING`` for ``table``.

    A row that another transaction is inserting is waited for: it is left alone where that
    transaction commits, and inserted here where it rolls back.
    """
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()
