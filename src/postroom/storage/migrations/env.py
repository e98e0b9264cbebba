"""What Alembic runs for every command of ours; the connection and its transaction are given."""

from __future__ import annotations

from alembic import context

from postroom.storage.migrations import alembic_options
from postroom.storage.tables import tables

_given = context.config.attributes
context.configure(**alembic_options(_given["connection"], tables(_given["schema"])))
with context.begin_transaction():
    context.run_migrations()
