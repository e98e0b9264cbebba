"""Create the tables, and check whether those in a database are usable by this version.

Nothing here needs Alembic; `postroom.storage.migrations` upgrades older tables.
"""

from __future__ import annotations

import re

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    DateTime,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.engine import Inspector

from postroom.errors import SchemaError
from postroom.storage.database_errors import explaining_setup_errors
from postroom.storage.engine import read_transaction, write_transaction
from postroom.storage.tables import PREFIX, Tables, UtcDateTime, tables
from postroom.text import and_more

#: The migration that the tables of this version correspond to.
REVISION = "0001"

#: Every migration this version knows, oldest first.
REVISIONS = (REVISION,)

#: Where our migrations keep their revision, apart from an application's own.
VERSION_TABLE = PREFIX + "alembic_version"

#: Every row of the queue is updated once or twice and then deleted. So vacuum after a fixed number
#: of dead rows, not after a share of the table, and without pauses; and keep empty pages at the end
#: of the file, because truncating it takes an exclusive lock.
_QUEUE_SETTINGS = {
    "fillfactor": 70,
    "autovacuum_vacuum_threshold": 5000,
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_cost_delay": 0,
    "vacuum_truncate": "off",
}

#: The outcome is written into a row once: with room on the page three indexes need no new entry
#: (https://www.postgresql.org/docs/current/storage-hot.html).
_RECIPIENT_SETTINGS = {"fillfactor": 80}

#: A number that no other program uses as a lock; this is "postroom" in ASCII.
_LOCK = int.from_bytes(b"postroom")

#: Would also match a name or a comment, but no table of ours has one with that word.
_AUTOINCREMENT = re.compile(r"\bAUTOINCREMENT\b", re.IGNORECASE)

#: Whether a column ``id`` takes its values from a sequence, as its default or as an identity
#: column, and whether the sequence starts again after its end.
_SEQUENCES = text("""
SELECT t.relname AS name, count(s.seqrelid) > 0 AS has_sequence,
       coalesce(bool_or(s.seqcycle), false) AS cycles
FROM pg_catalog.pg_class AS t
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = t.oid AND a.attname = 'id'
LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_catalog.pg_depend AS by_default
    ON by_default.classid = 'pg_catalog.pg_attrdef'::regclass AND by_default.objid = d.oid
    AND by_default.refclassid = 'pg_catalog.pg_class'::regclass
LEFT JOIN pg_catalog.pg_depend AS as_identity
    ON as_identity.refclassid = 'pg_catalog.pg_class'::regclass AND a.attidentity <> ''
    AND as_identity.refobjid = t.oid AND as_identity.refobjsubid = a.attnum
LEFT JOIN pg_catalog.pg_sequence AS s ON s.seqrelid IN (by_default.refobjid, as_identity.objid)
WHERE t.relnamespace = (
    SELECT oid FROM pg_catalog.pg_namespace
    WHERE nspname = coalesce(CAST(:schema AS text), current_schema()))
GROUP BY t.relname
""")

_UPGRADE = "run: postroom db upgrade (or upgrade them in the application's own migrations)"

#: No migration restores what was removed after it ran.
_RESTORE = (
    "restore what is missing from a backup; or, if nothing in the outbox is needed any more, "
    f"drop every table whose name begins with {PREFIX} and run: postroom db upgrade"
)
_OWN_MIGRATION = (
    "upgrade them in the application's own migrations, which created them "
    "(alembic revision --autogenerate)"
)


def version_table(schema: str | None = None) -> Table:
    """Return Alembic's version table under our name, as Alembic itself would create it."""
    return Table(
        VERSION_TABLE,
        MetaData(schema=schema),
        Column("version_num", String(32), nullable=False),
        PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
    )


def create(engine: Engine, schema: str | None = None) -> None:
    """Create the tables and note their revision; if they exist, only check them.

    Commits a transaction of its own. The database schema itself must exist.

    Args:
        engine: The database.
        schema: The database schema to use; None for the connection's default.

    Raises:
        SchemaError: there are tables of another version.
        ConfigError: the database cannot be reached or written.
    """
    ours = tables(schema)
    versions = version_table(schema)
    with explaining_setup_errors(engine.url), write_transaction(engine) as connection:
        lock(connection)
        if exist(connection, ours):
            check(connection, ours)
            return
        ours.metadata.create_all(connection)
        set_storage_parameters(connection, schema)
        versions.create(connection, checkfirst=True)
        connection.execute(versions.delete())
        connection.execute(versions.insert().values(version_num=REVISION))


def lock(connection: Connection) -> None:
    """Let only one transaction at a time change the tables; the others wait until it ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))


def add_tables_to(metadata: MetaData, schema: str | None = None) -> None:
    """Copy our tables into an application's ``metadata``, for its own migrations.

    They then belong to the application's Alembic history and to its ``create_all``. Columns get
    SQLAlchemy's own types, so that a generated migration imports nothing of ours. JSON columns are
    therefore ``json`` on PostgreSQL, which works as well as our ``jsonb``. On SQLite a generated
    migration says ``sqlite_autoincrement=True`` for two tables: it has to stay.

    Args:
        metadata: The application's metadata.
        schema: The database schema to use; None for the connection's default.
    """
    for table in tables(schema).metadata.sorted_tables:
        for column in table.to_metadata(metadata).columns:
            if isinstance(column.type, UtcDateTime):
                column.type = DateTime(timezone=True)
            elif isinstance(column.type, JSON):
                column.type = JSON(none_as_null=True)


def set_storage_parameters(connection: Connection, schema: str | None = None) -> None:
    """Set PostgreSQL's fill factors and autovacuum settings for the busy tables.

    Does nothing on SQLite. May be run again. For an application's own migrations.

    Args:
        connection: A connection in a transaction.
        schema: The database schema of the tables; None for the connection's default.
    """
    if connection.dialect.name != "postgresql":
        return
    ours = tables(schema)
    prepare = connection.dialect.identifier_preparer
    for table, settings in ((ours.queue, _QUEUE_SETTINGS), (ours.recipient, _RECIPIENT_SETTINGS)):
        values = ", ".join(f"{name} = {value}" for name, value in settings.items())
        connection.exec_driver_sql(f"ALTER TABLE {prepare.format_table(table)} SET ({values})")


def verify(engine: Engine, schema: str | None = None) -> None:
    """Connect and `check`; for programs that rely on the tables.

    Args:
        engine: The database.
        schema: The database schema of the tables; None for the connection's default.

    Raises:
        SchemaError: the tables are missing, too old or too new.
        ConfigError: the database cannot be reached.
    """
    with explaining_setup_errors(engine.url), read_transaction(engine) as connection:
        check(connection, tables(schema))


def check(connection: Connection, tables: Tables) -> None:
    """Check that the database has the tables of this version, whoever created them.

    Args:
        connection: A connection in a transaction.
        tables: The tables to look for.

    Raises:
        SchemaError: they are missing, too old or too new; the text says what to run.
    """
    if not exist(connection, tables):
        where = f"schema {tables.metadata.schema}" if tables.metadata.schema else "the database"
        raise SchemaError(
            f"there are no Postroom tables in {where}; "
            "run: postroom db upgrade, or call outbox.create_tables()"
        )
    revision = current_revision(connection, tables)
    check_revision(revision)
    missing = _missing(inspect(connection), tables)
    if missing:
        raise SchemaError(_lacking(missing, revision))
    if revision not in (None, REVISION):
        raise SchemaError(
            f"Postroom's tables must be at revision {REVISION}, not {revision}; {_UPGRADE}"
        )
    _check_ids(connection, tables)


def _check_ids(connection: Connection, tables: Tables) -> None:
    """Check that the database never gives the id of a deleted row to a new one.

    Raises:
        SchemaError: a table was created so that it would; the text says how to create it.
    """
    numbered = (tables.message, tables.recipient)
    if connection.dialect.name == "postgresql":
        schema_name = tables.metadata.schema
        found = connection.execute(_SEQUENCES, {"schema": schema_name}).all()
        endless = {row.name for row in found if row.has_sequence and not row.cycles}
        remedy = "make it an identity column (GENERATED BY DEFAULT AS IDENTITY) without CYCLE"
    else:
        endless = _autoincremented(connection, tables.metadata.schema)
        remedy = "recreate the table with AUTOINCREMENT (SQLAlchemy: sqlite_autoincrement=True)"
    wrong = [f"{table.name}.id" for table in numbered if table.name not in endless]
    if wrong:
        raise SchemaError(
            f"the database may give the id of a deleted row to a new one in {', '.join(wrong)}, "
            f"and one mail could be mistaken for another: {remedy}; see docs/schema.md"
        )


def _autoincremented(connection: Connection, schema: str | None) -> set[str]:
    """Return the tables with AUTOINCREMENT in a SQLite database, or in one attached to it."""
    master = Table("sqlite_master", MetaData(schema=schema), Column("name"), Column("sql"))
    made = connection.execute(select(master.c.name, master.c.sql).where(master.c.sql.is_not(None)))
    return {row.name for row in made if _AUTOINCREMENT.search(row.sql)}


def check_revision(revision: str | None) -> None:
    """Check that ``revision`` is known to this version, or None.

    Raises:
        SchemaError: a later version of Postroom has upgraded the tables.
    """
    if revision is not None and revision not in REVISIONS:
        raise SchemaError(
            f"Postroom's tables are at revision {revision}, which is newer than this version "
            f"({REVISION}); run: pip install --upgrade postroom"
        )


def current_revision(connection: Connection, tables: Tables) -> str | None:
    """Return the revision noted by `create` or our migrations; None if there is none.

    Args:
        connection: A connection in a transaction.
        tables: The outbox's tables.
    """
    versions = version_table(tables.metadata.schema)
    if not inspect(connection).has_table(VERSION_TABLE, schema=versions.schema):
        return None
    revision: str | None = connection.execute(select(versions.c.version_num)).scalar()
    return revision


def exist(connection: Connection, tables: Tables) -> bool:
    """Return whether any of our tables exists."""
    present = inspect(connection).get_table_names(schema=tables.metadata.schema)
    return any(table.name in present for table in tables.metadata.tables.values())


def _lacking(missing: list[str], revision: str | None) -> str:
    """Say what the tables lack, and what to do: an upgrade, but only if there is one."""
    named = and_more(missing, 5, separator=", ")
    if revision is None:
        return f"Postroom's tables lack {named}: {_OWN_MIGRATION}"
    if revision == REVISION:
        return f"Postroom's tables are at revision {revision}, but lack {named}: {_RESTORE}"
    return f"Postroom's tables are at revision {revision}, and lack {named}: {_UPGRADE}"


def _missing(inspector: Inspector, tables: Tables) -> list[str]:
    """Return the names of missing tables, and of missing columns in the others."""
    present = set(inspector.get_table_names(schema=tables.metadata.schema))
    missing: list[str] = []
    for table in tables.metadata.tables.values():
        if table.name not in present:
            missing.append(table.name)
            continue
        found = {column["name"] for column in inspector.get_columns(table.name, table.schema)}
        missing += [str(column) for column in table.columns if column.name not in found]
    return missing
