"""Making the tables, and telling whether those in a database are ours to use.

What is here needs no Alembic; `postroom.storage.migrations` brings older tables up to date.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, func, inspect, select
from sqlalchemy.engine import Inspector

from postroom.storage.diagnosis import diagnosed
from postroom.storage.engine import read, write
from postroom.storage.models import PREFIX, Tables, tables
from postroom.values.errors import SchemaError

#: The migration that the tables of this version correspond to.
REVISION = "0001"

#: Every migration this version knows, oldest first.
REVISIONS = (REVISION,)

#: Where our migrations keep their revision, apart from an application's own.
VERSION_TABLE = PREFIX + "alembic_version"

#: Every row of the queue is updated once or twice and then deleted: vacuum after a fixed number
#: of dead rows, not after a share of the table, and without pausing; keep the file's tail, since
#: giving it back takes an exclusive lock.
_QUEUE_SETTINGS = {
    "fillfactor": 70,
    "autovacuum_vacuum_threshold": 5000,
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_cost_delay": 0,
    "vacuum_truncate": "off",
}

#: The outcome is written into a row once: room on the page spares three indexes an entry (HOT).
_RECIPIENT_SETTINGS = {"fillfactor": 80}

#: Any number that no other program locks; this is "postroom" in ASCII.
_LOCK = int.from_bytes(b"postroom")

_UPGRADE = "run: postroom db upgrade (or upgrade them in the application's own migrations)"


def version_table(metadata: MetaData) -> Table:
    """Return Alembic's version table under our name, in the schema of ``metadata``."""
    return Table(VERSION_TABLE, metadata, Column("version_num", String(32), primary_key=True))


def create(engine: Engine, schema: str | None = None) -> None:
    """Create the tables and note their revision; where they stand already, only check them.

    Commits a transaction of its own. The schema itself must exist.

    Raises:
        SchemaError: there are tables of another version already.
        ConfigError: the database cannot be reached or written.
    """
    ours = tables(schema)
    versions = version_table(MetaData(schema=schema))
    with diagnosed(engine.url), write(engine) as connection:
        lock(connection)
        if _present(inspect(connection), ours):
            check(connection, ours)
            return
        ours.metadata.create_all(connection)
        tune(connection, schema)
        versions.create(connection, checkfirst=True)
        connection.execute(versions.delete())
        connection.execute(versions.insert().values(version_num=REVISION))


def lock(connection: Connection) -> None:
    """Let one transaction at a time change the tables; the others wait for its end."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def tune(connection: Connection, schema: str | None = None) -> None:
    """Set what PostgreSQL's planner and autovacuum should know about the busy tables.

    Does nothing on SQLite, and nothing the second time. For migrations of an application's own.
    """
    if connection.dialect.name != "postgresql":
        return
    ours = tables(schema)
    prepare = connection.dialect.identifier_preparer
    for table, settings in ((ours.queue, _QUEUE_SETTINGS), (ours.recipient, _RECIPIENT_SETTINGS)):
        values = ", ".join(f"{name} = {value}" for name, value in settings.items())
        connection.exec_driver_sql(f"ALTER TABLE {prepare.format_table(table)} SET ({values})")


def verify(engine: Engine, schema: str | None = None) -> None:
    """Connect and `check`; what a program does before it relies on the tables.

    Raises:
        SchemaError: the tables are missing, too old or too new.
        ConfigError: the database cannot be reached.
    """
    with diagnosed(engine.url), read(engine) as connection:
        check(connection, tables(schema))


def check(connection: Connection, tables: Tables) -> None:
    """Return if the database holds the tables of this version.

    Raises:
        SchemaError: they are missing, too old or too new; the text says what to run.
    """
    inspector = inspect(connection)
    present = _present(inspector, tables)
    wanted = tables.metadata.tables.values()
    if not present:
        raise SchemaError(
            f"expected Postroom's tables to be in the database, got: none{_in(tables)}; "
            "run: postroom db upgrade, or call outbox.create_tables()"
        )
    _check_revision(connection, inspector, tables)
    missing = [table.name for table in wanted if table.name not in present]
    missing += _missing_columns(inspector, (t for t in wanted if t.name in present))
    if missing:
        raise SchemaError(
            "expected Postroom's tables to be of this version, got: older ones without "
            f"{', '.join(missing[:5])}; {_UPGRADE}"
        )


def _in(tables: Tables) -> str:
    return f" in schema {tables.metadata.schema}" if tables.metadata.schema else ""


def _present(inspector: Inspector, tables: Tables) -> set[str]:
    names = {table.name for table in tables.metadata.tables.values()}
    return names & set(inspector.get_table_names(schema=tables.metadata.schema))


def _missing_columns(inspector: Inspector, wanted: Iterable[Table]) -> list[str]:
    return [
        f"{table.name}.{column.name}"
        for table in wanted
        for column in table.columns
        if column.name not in _column_names(inspector, table)
    ]


def _column_names(inspector: Inspector, table: Table) -> set[str]:
    return {column["name"] for column in inspector.get_columns(table.name, schema=table.schema)}


def _check_revision(connection: Connection, inspector: Inspector, tables: Tables) -> None:
    """Compare what our own migrations noted; an application's own history notes nothing here."""
    schema = tables.metadata.schema
    if not inspector.has_table(VERSION_TABLE, schema=schema):
        return
    versions = version_table(MetaData(schema=schema))
    revision = connection.execute(select(versions.c.version_num)).scalar()
    if revision is None or revision == REVISION:
        return
    if revision in REVISIONS:
        raise SchemaError(
            f"expected Postroom's tables to be at revision {REVISION}, got: {revision}; {_UPGRADE}"
        )
    raise SchemaError(
        f"expected Postroom's tables to be at revision {REVISION}, got: {revision}, "
        "which is newer than this version knows; upgrade the postroom package"
    )
