"""Our Alembic history, and our tables in an application's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import (
    URL,
    Column,
    Engine,
    Integer,
    MetaData,
    Table,
    create_engine,
    inspect,
    select,
    text,
)
from sqlalchemy.schema import CreateSchema

from postroom.errors import ConfigError, SchemaError
from postroom.storage import engine as engines
from postroom.storage import migrations, schema
from postroom.storage import tables as models
from postroom.storage.engine import read_transaction, write_transaction


@pytest.fixture
def empty(database_url: URL) -> Iterator[Engine]:
    """A worker's engine on a database without any table."""
    engine = engines.worker_engine(database_url)
    yield engine
    engine.dispose()


def _tables_of(engine: Engine) -> dict[str, Any]:
    """Everything that the database can tell about the tables, in a form that compares."""
    found = inspect(engine)
    return {
        name: {
            "columns": [
                {**column, "type": repr(column["type"])} for column in found.get_columns(name)
            ],
            "primary key": found.get_pk_constraint(name),
            "foreign keys": found.get_foreign_keys(name),
            "unique": sorted(found.get_unique_constraints(name), key=str),
            "indexes": sorted(found.get_indexes(name), key=str),
        }
        for name in found.get_table_names()
    }


def _settings_of(engine: Engine) -> list[Any]:
    with read_transaction(engine) as connection:
        return list(
            connection.execute(
                text("SELECT relname, reloptions FROM pg_class WHERE relname LIKE 'postroom%'")
            )
        )


def test_the_migrations_make_the_tables_that_the_models_say(empty: Engine) -> None:
    migrations.upgrade(empty)
    schema.verify(empty)
    migrations.check(empty)


def test_created_and_migrated_tables_are_equal_on_sqlite(tmp_path: Path) -> None:
    created, migrated = (
        engines.worker_engine(f"sqlite:///{tmp_path}/{name}.db") for name in ("one", "other")
    )
    schema.create(created)
    migrations.upgrade(migrated)
    assert _tables_of(created) == _tables_of(migrated)
    created.dispose()
    migrated.dispose()


def test_created_and_migrated_tables_are_equal_on_postgresql(postgres: Any) -> None:
    urls = [postgres.create_database() for _ in range(2)]
    created, migrated = (engines.worker_engine(url) for url in urls)
    schema.create(created)
    migrations.upgrade(migrated)
    assert _tables_of(created) == _tables_of(migrated)
    assert sorted(map(str, _settings_of(created))) == sorted(map(str, _settings_of(migrated)))
    for engine, url in zip((created, migrated), urls, strict=True):
        engine.dispose()
        postgres.drop_database(url)


def test_the_revisions_that_the_code_knows_are_those_that_exist() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    existing = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(existing)) == schema.REVISIONS
    assert existing[0] == schema.REVISION


def test_upgrading_twice_or_after_create_changes_nothing(empty: Engine) -> None:
    schema.create(empty)
    before = _tables_of(empty)
    migrations.upgrade(empty)
    migrations.upgrade(empty)
    assert _tables_of(empty) == before
    with read_transaction(empty) as connection:
        assert schema.current_revision(connection, models.tables()) == schema.REVISION


def test_only_our_own_tables_are_looked_at(empty: Engine) -> None:
    others = MetaData()
    Table("customer_order", others, Column("id", Integer, primary_key=True))
    others.create_all(empty)
    migrations.upgrade(empty)
    migrations.check(empty)
    assert "customer_order" in inspect(empty).get_table_names()
    assert "alembic_version" not in inspect(empty).get_table_names()


def test_a_schema_of_its_own_is_migrated_too(postgresql_url: URL) -> None:
    engine = engines.worker_engine(postgresql_url)
    with write_transaction(engine) as connection:
        connection.execute(CreateSchema("mailroom"))
    migrations.upgrade(engine, "mailroom")
    migrations.check(engine, "mailroom")
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_a_newer_database_is_neither_changed_nor_called_right(empty: Engine) -> None:
    migrations.upgrade(empty)
    with write_transaction(empty) as connection:
        connection.execute(text("UPDATE postroom_alembic_version SET version_num = '0999'"))
    for ask in (migrations.upgrade, migrations.check):
        with pytest.raises(SchemaError, match="pip install --upgrade postroom"):
            ask(empty)


def test_a_difference_is_named(empty: Engine) -> None:
    migrations.upgrade(empty)
    with write_transaction(empty) as connection:
        connection.execute(text("DROP INDEX postroom_queue_due"))
    with pytest.raises(SchemaError, match="add_index postroom_queue_due"):
        migrations.check(empty)


def test_an_index_of_your_own_is_no_difference(empty: Engine) -> None:
    migrations.upgrade(empty)
    with write_transaction(empty) as connection:
        connection.execute(text("CREATE INDEX mine ON postroom_recipient (user_ref)"))
    migrations.check(empty)


def test_tables_of_the_applications_history_are_left_to_it(empty: Engine) -> None:
    application = MetaData()
    schema.add_tables_to(application)
    application.create_all(empty)
    migrations.upgrade(empty)
    migrations.check(empty)
    assert schema.VERSION_TABLE not in inspect(empty).get_table_names()
    with write_transaction(empty) as connection:
        connection.execute(text("ALTER TABLE postroom_recipient DROP COLUMN fault"))
    with pytest.raises(SchemaError, match="in the application's own migrations"):
        migrations.upgrade(empty)


def test_without_alembic_the_extra_is_named(empty: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "alembic.command", None)
    with pytest.raises(ConfigError, match=r"pip install 'postroom\[cli\]'"):
        migrations.upgrade(empty)


#: As SQLAlchemy's documentation recommends it for migrations.
_CONVENTION = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

_APPLICATION_ENV = """
from alembic import context

given = context.config.attributes
context.configure(connection=given["connection"], target_metadata=given["metadata"])
with context.begin_transaction():
    context.run_migrations()
"""

_APPLICATION_SCRIPT = """
import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}

def upgrade():
    ${upgrades if upgrades else "pass"}

def downgrade():
    ${downgrades if downgrades else "pass"}
"""


def test_an_application_takes_our_tables_into_its_own_history(
    database_url: URL, tmp_path: Path
) -> None:
    """As ``flask db migrate`` and ``flask db upgrade`` do it, with Alembic's own templates."""
    (tmp_path / "env.py").write_text(_APPLICATION_ENV)
    (tmp_path / "script.py.mako").write_text(_APPLICATION_SCRIPT)
    (tmp_path / "versions").mkdir()
    application = MetaData(naming_convention=_CONVENTION)
    Table("customer_order", application, Column("id", Integer, primary_key=True))
    schema.add_tables_to(application)
    engine = create_engine(database_url)
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(tmp_path))
        config.attributes.update(connection=connection, metadata=application)
        command.revision(config, "all", autogenerate=True)
        command.upgrade(config, "head")
        schema.set_storage_parameters(connection)
        command.check(config)
    schema.verify(engine)
    (generated,) = (tmp_path / "versions").glob("*.py")
    assert "postroom.storage" not in generated.read_text()
    with engine.connect() as connection:
        assert connection.execute(select(models.tables().queue)).all() == []
    engine.dispose()
