"""The throw-away servers are what the other tests take them for."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import URL, Engine, NullPool, create_engine, inspect, text
from sqlalchemy.exc import OperationalError

from postroom.storage.tables import Tables
from tests.services.postfix import Postfix, SmtpSink
from tests.services.postgresql import Postgresql
from tests.services.redis import Redis
from tests.services.reusable import ReusableDatabase
from tests.services.waiting import listens, wait_for


def test_an_engine_finds_the_tables_in_a_database_of_its_own(
    engine: Engine, tables: Tables
) -> None:
    with engine.connect() as connection:
        assert inspect(connection).has_table(tables.message.name)
        assert not connection.execute(tables.message.select()).all()


def test_both_engines_see_the_same_database(engine: Engine, worker_engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mark (value INTEGER)"))
    with worker_engine.connect() as connection:
        assert inspect(connection).has_table("mark")


def test_postgresql_keeps_what_was_committed_through_a_crash(postgres: Postgresql) -> None:
    postgres.execute("CREATE TABLE IF NOT EXISTS kept (value integer)")
    postgres.execute("INSERT INTO kept VALUES (%s)", 7)
    postgres.restart("immediate")
    assert postgres.execute("SELECT value FROM kept") == [(7,)]
    postgres.execute("DROP TABLE kept")


def test_redis_comes_back_on_the_same_port(redis_server: Redis) -> None:
    redis_server.restart()
    assert listens(redis_server.port)


def test_postfix_stores_what_it_accepts(postfix: Postfix) -> None:
    before = len(postfix.received())
    with smtplib.SMTP("127.0.0.1", postfix.port, timeout=10) as client:
        recipients = ["someone@example.com", "unknown@example.com"]
        refused = client.sendmail("shop@example.com", recipients, "Subject: Hello\r\n\r\nHello\r\n")
    assert [code for code, _ in refused.values()] == [550]
    stored = wait_for(lambda: postfix.received()[before:], "the mail in the maildir")
    assert "Subject: Hello" in stored[0].read_text()


def test_the_sink_accepts_everything(smtp_sink: SmtpSink) -> None:
    with smtplib.SMTP("127.0.0.1", smtp_sink.port, timeout=10) as client:
        assert client.sendmail("a@example.com", ["b@example.com"], "Subject: x\r\n\r\nx\r\n") == {}


# -- one database for many tests --------------------------------------------------------------


@pytest.fixture
def reusable(postgres: Postgresql) -> Iterator[ReusableDatabase]:
    def prepare(url: URL) -> None:
        for statement in (
            "CREATE TABLE item (id serial PRIMARY KEY, name text NOT NULL)",
            "CREATE TABLE part (item integer REFERENCES item)",
            "CREATE TABLE version (number integer)",
            "INSERT INTO version VALUES (1)",
        ):
            run(url, statement)

    reusable = ReusableDatabase(postgres, prepare, kept=("version",))
    yield reusable
    reusable.drop()


def run(url: URL, statement: str) -> list[Any]:
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        return list(result) if result.returns_rows else []


def test_a_database_that_is_lent_again_is_as_empty_as_a_new_one(
    reusable: ReusableDatabase,
) -> None:
    first = reusable.lend()
    run(first, "INSERT INTO item (name) VALUES ('a'), ('b')")
    run(first, "INSERT INTO part VALUES (1)")
    reusable.take_back()
    assert reusable.lend() == first
    assert run(first, "SELECT * FROM item") == run(first, "SELECT * FROM part") == []
    assert run(first, "SELECT number FROM version") == [(1,)]
    assert run(first, "INSERT INTO item (name) VALUES ('c') RETURNING id") == [(1,)]


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE another (id integer)",
        "DROP TABLE part",
        "DROP TABLE item CASCADE",
        "ALTER TABLE item DROP COLUMN name",
        "ALTER TABLE item ALTER COLUMN name DROP NOT NULL",
        "ALTER TABLE item SET (fillfactor = 50)",
        "CREATE INDEX ON item (name)",
        "ALTER TABLE item ADD CHECK (name <> '')",
        "CREATE SCHEMA elsewhere",
        "CREATE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
        "CREATE VIEW name AS SELECT name FROM item",
        "CREATE RULE none AS ON INSERT TO item DO INSTEAD NOTHING",
        "CREATE SEQUENCE counter",
        "CREATE TYPE mood AS ENUM ('glad')",
        "GRANT SELECT ON item TO PUBLIC",
        "UPDATE version SET number = 2",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = ''1MB''', "
        "current_database()); END $$",
    ],
)
def test_a_database_in_which_more_than_rows_has_changed_is_not_lent_again(
    reusable: ReusableDatabase, change: str
) -> None:
    first = reusable.lend()
    run(first, change)
    reusable.take_back()
    assert reusable.lend() != first
    assert run(reusable.lend(), "SELECT number FROM version") == [(1,)]


def test_a_database_that_somebody_still_uses_is_not_lent_again(
    reusable: ReusableDatabase,
) -> None:
    first = reusable.lend()
    left_behind = create_engine(first)
    connection = left_behind.connect()
    connection.execute(text("INSERT INTO item (name) VALUES ('late')"))
    reusable.take_back()
    assert reusable.lend() != first
    with pytest.raises(OperationalError):
        connection.commit()
    connection.invalidate()
    left_behind.dispose()
