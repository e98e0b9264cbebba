"""Our own Alembic history: upgrades the tables of an earlier version to this one.

Needs Alembic (the extra ``cli``), but no ``alembic.ini``. An application may put the tables into
its own history instead; see `postroom.storage.schema.add_tables_to`.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from postroom.errors import ConfigError, SchemaError
from postroom.storage import schema as schemas
from postroom.storage.database_errors import explaining_setup_errors
from postroom.storage.engine import read_transaction, write_transaction
from postroom.storage.tables import Tables, tables

_log = logging.getLogger("postroom.migrations")


def upgrade(engine: Engine, schema: str | None = None) -> None:
    """Create the tables, or upgrade them to this version, in one transaction of its own.

    Tables that are up to date, or that an application's own migrations created, are left alone.

    Args:
        engine: The database. Migrating large tables may take long: use an engine without a
            deadline.
        schema: The database schema of the tables; None for the connection's default.

    Raises:
        SchemaError: the tables are newer than this version, or the application's and too old, or
            lack a table or a column that no migration will create.
        ConfigError: the database cannot be reached or written, or Alembic is not installed.
    """
    alembic = _alembic()
    ours = tables(schema)
    with explaining_setup_errors(engine.url), write_transaction(engine) as connection:
        schemas.lock(connection)
        before = schemas.current_revision(connection, ours)
        if before is None and schemas.exist(connection, ours):
            schemas.check(connection, ours)
            return
        schemas.check_revision(before)
        alembic.command.upgrade(_config(alembic, connection, schema), "head")
        schemas.check(connection, ours)  # the revision tells what ran, not what still exists
        _log.info("tables upgraded from %s to %s", before, schemas.REVISION)


def check(engine: Engine, schema: str | None = None) -> None:
    """Compare every table, column and index in the database with what this version expects.

    What the database has besides (an index of your own, say) is not a difference. Tables that an
    application's own migrations created follow its naming convention: only their columns are
    compared.

    Args:
        engine: The database.
        schema: The database schema of the tables; None for the connection's default.

    Raises:
        SchemaError: the tables are missing, too old, too new, or differ; the text says where.
        ConfigError: the database cannot be reached, or Alembic is not installed.
    """
    alembic = _alembic()
    ours = tables(schema)
    with explaining_setup_errors(engine.url), read_transaction(engine) as connection:
        schemas.check(connection, ours)
        if schemas.current_revision(connection, ours) is None:
            return
        found = _differences(alembic, connection, ours)
    if found:
        raise SchemaError(
            f"Postroom's tables differ from revision {schemas.REVISION}: {'; '.join(found[:5])}"
        )


def _alembic() -> Any:
    try:
        import alembic.autogenerate  # noqa: PLC0415
        import alembic.command  # noqa: PLC0415
        import alembic.config  # noqa: PLC0415
        import alembic.migration  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ConfigError("Alembic is not installed; run: pip install 'postroom[cli]'") from None
    return alembic


def _config(alembic: Any, connection: Connection, schema: str | None) -> Any:
    config = alembic.config.Config()
    # The option is interpolated, and a directory's name may have a percent sign.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["schema"] = schema
    return config


def alembic_options(connection: Connection, tables: Tables) -> dict[str, Any]:
    """Return how Alembic should look at the database: at all of our tables, and at no others.

    Args:
        connection: The connection that Alembic uses.
        tables: The outbox's tables.
    """
    schema = tables.metadata.schema
    names = {table.name for table in tables.metadata.tables.values()}

    def is_ours(name: str | None, kind: str, parents: Any) -> bool:
        if kind == "schema":
            return name == schema
        return kind != "table" or name in names

    return {
        "connection": connection,
        "target_metadata": tables.metadata,
        "version_table": schemas.VERSION_TABLE,
        "version_table_schema": schema,
        "include_schemas": schema is not None,
        "include_name": is_ours,
        "compare_type": True,
    }


def _differences(alembic: Any, connection: Connection, tables: Tables) -> list[str]:
    settings = alembic_options(connection, tables)
    del settings["connection"], settings["target_metadata"]
    context = alembic.migration.MigrationContext.configure(connection, opts=settings)
    found = alembic.autogenerate.compare_metadata(context, tables.metadata)
    return [_formatted(difference) for difference in found if not _is_extra(difference)]


def _is_extra(difference: Any) -> bool:
    return isinstance(difference, tuple) and str(difference[0]).startswith("remove_")


def _formatted(difference: Any) -> str:
    """Format what Alembic gives: a tuple for an object, a list of tuples for a column."""
    parts = difference[0] if isinstance(difference, list) else difference
    names = [getattr(part, "name", part) for part in parts[1:5]]
    return " ".join(str(part) for part in (parts[0], *names) if part is not None)
