"""What Alembic runs for every command of ours; the connection and its transaction are passed in."""

from __future__ import annotations

from alembic import context

from postroom.storage.migrations import alembic_options
from postroom.storage.tables import tables

_attributes = context.config.attributes
context.configure(**alembic_options(_attributes["connection"], tables(_attributes["schema"])))
with context.begin_transaction():
    context.run_migrations()
