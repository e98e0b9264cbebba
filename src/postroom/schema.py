"""The outbox's tables, for an application that creates and migrates them with its own."""

from __future__ import annotations

from postroom.storage.migrations import alembic_options, check, upgrade
from postroom.storage.schema import add_tables_to as add_tables
from postroom.storage.schema import create, set_storage_parameters
from postroom.storage.tables import Tables, tables

__all__ = [
    "Tables",
    "add_tables",
    "alembic_options",
    "check",
    "create",
    "set_storage_parameters",
    "tables",
    "upgrade",
]
