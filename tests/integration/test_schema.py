"""Making the tables, and telling whether those in a database are of this version."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from sqlalchemy import URL, Engine, MetaData, create_engine, inspect, text
from sqlalchemy.schema import CreateSchema, CreateTable

from postroom.errors import ConfigError, SchemaError
from postroom.storage import engine as engines
from postroom.storage import schema
from postroom.storage import tables as models
from postroom.storage.engine import read_transaction, write_transaction


@pytest.fixture
def empty(database_url: URL) -> Iterator[Engine]:
    """A worker's engine on a database without any table."""
    engine = engines.worker_engine(database_url)
    yield engine
    engine.dispose()


def _names(engine: Engine, schema_name: str | None = None) -> set[str]:
    return set(inspect(engine).get_table_names(schema=schema_name))


def _wanted() -> set[str]:
    return {table.name for table in models.tables().metadata.tables.values()}


def _complaint(engine: Engine) -> str:
    with pytest.raises(SchemaError) as caught:
        schema.verify(engine)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_tables_are_made_and_are_of_this_version(empty: Engine) -> None:
    schema.create(empty)
    assert _names(empty) == _wanted() | {schema.VERSION_TABLE}
    schema.verify(empty)


def test_making_them_again_changes_nothing(empty: Engine) -> None:
    schema.create(empty)
    with write_transaction(empty) as connection:
        connection.execute(
            models.tables()
            .suppression.insert()
            .values(address_key="a@b.example", reason="asked", created_at=text("CURRENT_TIMESTAMP"))
        )
    schema.create(empty)
    with read_transaction(empty) as connection:
        assert connection.execute(text("SELECT count(*) FROM postroom_suppression")).scalar() == 1


@pytest.mark.parametrize("whose", ["worker", "application"])
def test_several_programs_may_make_them_at_once(database_url: URL, whose: str) -> None:
    make = engines.worker_engine if whose == "worker" else create_engine
    engines_of_all = [make(database_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for outcome in pool.map(schema.create, engines_of_all):
            assert outcome is None
    schema.verify(engines_of_all[0])
    for engine in engines_of_all:
        engine.dispose()


def test_missing_tables_are_told_with_what_to_run(empty: Engine) -> None:
    complaint = _complaint(empty)
    assert "there are no Postroom tables in the database" in complaint
    assert "run: postroom db upgrade, or call outbox.create_tables()" in complaint


def test_a_column_that_somebody_dropped_is_named_with_what_helps(empty: Engine) -> None:
    schema.create(empty)
    with write_transaction(empty) as connection:
        connection.execute(text("ALTER TABLE postroom_recipient DROP COLUMN fault"))
    complaint = _complaint(empty)
    assert "lack postroom_recipient.fault" in complaint
    assert "restore what is missing from a backup" in complaint


def test_a_table_that_somebody_dropped_is_named(empty: Engine) -> None:
    schema.create(empty)
    with write_transaction(empty) as connection:
        connection.execute(text("DROP TABLE postroom_suppression"))
    assert "lack postroom_suppression" in _complaint(empty)
    with pytest.raises(SchemaError):
        schema.create(empty)


def test_an_unknown_revision_is_a_newer_version(empty: Engine) -> None:
    schema.create(empty)
    with write_transaction(empty) as connection:
        connection.execute(text("UPDATE postroom_alembic_version SET version_num = '0999'"))
    complaint = _complaint(empty)
    assert "at revision 0999, which is newer" in complaint
    assert "pip install --upgrade postroom" in complaint


def test_tables_of_the_applications_own_migrations_are_as_good(empty: Engine) -> None:
    application = MetaData()
    schema.add_tables_to(application)
    application.create_all(empty)
    assert schema.VERSION_TABLE not in _names(empty)
    schema.verify(empty)
    schema.create(empty)
    assert schema.VERSION_TABLE not in _names(empty)


def test_a_database_that_cannot_be_reached_is_no_matter_of_tables() -> None:
    engine = engines.worker_engine("postgresql://u:hush@127.0.0.1:1/shop")
    for ask in (schema.create, schema.verify):
        with pytest.raises(ConfigError) as caught:
            ask(engine)
        assert not isinstance(caught.value, SchemaError)


def test_the_tables_may_live_in_a_schema_of_their_own(postgresql_url: URL) -> None:
    engine = engines.worker_engine(postgresql_url)
    with pytest.raises(ConfigError, match="create it: CREATE SCHEMA"):
        schema.create(engine, "Mail room")
    with write_transaction(engine) as connection:
        connection.execute(CreateSchema("Mail room"))
    schema.create(engine, "Mail room")
    schema.verify(engine, "Mail room")
    assert _names(engine) == set()
    assert _names(engine, "Mail room") == _wanted() | {schema.VERSION_TABLE}
    with pytest.raises(SchemaError, match="no Postroom tables in the database;"):
        schema.verify(engine)
    with pytest.raises(SchemaError, match="no Postroom tables in schema elsewhere"):
        schema.verify(engine, "elsewhere")
    engine.dispose()


def test_postgresql_is_told_how_busy_the_queue_is(postgresql_url: URL) -> None:
    engine = engines.worker_engine(postgresql_url)
    schema.create(engine)
    with read_transaction(engine) as connection:
        options = connection.execute(
            text("SELECT reloptions FROM pg_class WHERE relname = 'postroom_queue'")
        ).scalar_one()
    assert "autovacuum_vacuum_scale_factor=0" in options
    engine.dispose()


def test_the_application_may_make_the_tables_and_ids_are_still_used_once(empty: Engine) -> None:
    application = MetaData()
    schema.add_tables_to(application)
    application.create_all(empty)
    recipient = models.tables().recipient
    address = {"address": "a@b.example", "address_key": "a@b.example", "type": "to"}
    values = {"message_id": 1, "state": "queued", "updated_at": datetime.now(UTC)} | address
    with write_transaction(empty) as connection:
        first = connection.execute(recipient.insert().values(values)).inserted_primary_key
        connection.execute(recipient.delete())
        second = connection.execute(recipient.insert().values(values)).inserted_primary_key
    assert first != second


@pytest.mark.parametrize("name", ["message", "recipient"])
def test_tables_that_would_use_an_id_again_are_refused_on_sqlite(
    sqlite_url: URL, name: str
) -> None:
    """As Alembic's batch mode leaves them, which makes a table anew without AUTOINCREMENT."""
    engine = engines.worker_engine(sqlite_url)
    application = MetaData()
    schema.add_tables_to(application)
    application.tables[f"postroom_{name}"].dialect_options["sqlite"]["autoincrement"] = False
    application.create_all(engine)
    complaint = _complaint(engine)
    assert f"postroom_{name}.id" in complaint
    assert "AUTOINCREMENT" in complaint
    engine.dispose()


@pytest.mark.parametrize(
    "spoil",
    [
        "ALTER SEQUENCE postroom_recipient_id_seq CYCLE",
        "ALTER TABLE postroom_recipient ALTER COLUMN id DROP DEFAULT",
        "ALTER TABLE postroom_recipient ALTER COLUMN id SET DEFAULT floor(random() * 1000)",
    ],
)
def test_ids_that_may_come_again_are_refused_on_postgresql(postgresql_url: URL, spoil: str) -> None:
    engine = engines.worker_engine(postgresql_url)
    schema.create(engine)
    with write_transaction(engine) as connection:
        connection.execute(text(spoil))
    complaint = _complaint(engine)
    assert "postroom_recipient.id" in complaint
    assert "postroom_message" not in complaint
    assert "IDENTITY" in complaint
    engine.dispose()


@pytest.mark.parametrize(
    "number",
    [
        "GENERATED BY DEFAULT AS IDENTITY",
        "GENERATED ALWAYS AS IDENTITY",
        "DEFAULT nextval('one_for_all')",
    ],
)
def test_any_sequence_that_never_begins_again_will_do(postgresql_url: URL, number: str) -> None:
    engine = engines.worker_engine(postgresql_url)
    with write_transaction(engine) as connection:
        connection.execute(text("CREATE SEQUENCE one_for_all"))
        for table in models.tables().metadata.sorted_tables:
            made = str(CreateTable(table).compile(engine))
            connection.execute(text(made.replace("BIGSERIAL NOT NULL", f"BIGINT {number}")))
    schema.verify(engine)
    engine.dispose()
