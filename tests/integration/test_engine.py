"""The worker's engine: its transactions, its clock, its deadlines, and its plain-spoken errors."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, create_engine, select, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from postroom.errors import ConfigError
from postroom.storage import engine as engines
from postroom.storage.database_errors import explaining_setup_errors
from postroom.storage.engine import (
    clock_sql,
    configure_sqlite,
    dialect_of,
    read_transaction,
    write_transaction,
)


@pytest.fixture
def numbers(database_url: URL) -> Iterator[Engine]:
    """A worker's engine on a database with one table of numbers."""
    engine = engines.worker_engine(database_url)
    with write_transaction(engine) as connection:
        connection.execute(text("CREATE TABLE number (n INTEGER)"))
    yield engine
    engine.dispose()


def _count(engine: Engine) -> int:
    with read_transaction(engine) as connection:
        return int(connection.execute(text("SELECT count(*) FROM number")).scalar_one())


def test_what_is_written_is_committed_at_the_end(numbers: Engine) -> None:
    with write_transaction(numbers) as connection:
        connection.execute(text("INSERT INTO number VALUES (1)"))
    assert _count(numbers) == 1


def test_an_error_takes_everything_back(numbers: Engine) -> None:
    with suppress(RuntimeError), write_transaction(numbers) as connection:
        connection.execute(text("INSERT INTO number VALUES (1)"))
        connection.execute(text("CREATE TABLE other (n INTEGER)"))
        raise RuntimeError
    assert _count(numbers) == 0
    with (
        pytest.raises((OperationalError, ProgrammingError)),
        read_transaction(numbers) as connection,
    ):
        connection.execute(text("SELECT * FROM other"))


def test_reading_sees_one_moment_on_sqlite(sqlite_url: URL) -> None:
    engine = engines.worker_engine(sqlite_url)
    with write_transaction(engine) as connection:
        connection.execute(text("CREATE TABLE number (n INTEGER)"))
    with read_transaction(engine) as reading:
        assert reading.execute(text("SELECT count(*) FROM number")).scalar() == 0
        with write_transaction(engine) as writing:
            writing.execute(text("INSERT INTO number VALUES (1)"))
        assert reading.execute(text("SELECT count(*) FROM number")).scalar() == 0
    assert _count(engine) == 1
    engine.dispose()


@pytest.mark.parametrize("whose", ["worker", "application"])
def test_a_writer_on_sqlite_has_the_lock_before_it_reads(sqlite_url: URL, whose: str) -> None:
    engine = engines.worker_engine(sqlite_url) if whose == "worker" else create_engine(sqlite_url)
    with (
        write_transaction(engine),
        closing(sqlite3.connect(str(sqlite_url.database), timeout=0)) as other,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("BEGIN IMMEDIATE")
    engine.dispose()


def test_sqlite_is_prepared_for_many_processes_and_power_cuts(sqlite_url: URL) -> None:
    engine = engines.worker_engine(sqlite_url)
    with read_transaction(engine) as connection:
        found = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
    assert found == {
        "journal_mode": "wal",
        "busy_timeout": 30_000,
        "foreign_keys": 1,
        "synchronous": 2,
    }
    engine.dispose()


def test_an_applications_sqlite_engine_is_prepared_and_others_are_left_alone(
    sqlite_url: URL,
) -> None:
    engine = create_engine(sqlite_url)
    configure_sqlite(engine)
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    engine.dispose()
    configure_sqlite(create_engine("postgresql+psycopg://nobody@127.0.0.1:1/none"))


def test_an_asynchronous_sqlite_engine_is_prepared_too(sqlite_url: URL) -> None:
    engine = create_async_engine(sqlite_url.set(drivername="sqlite+aiosqlite"))
    configure_sqlite(engine.sync_engine)

    async def modes() -> tuple[object, object]:
        async with engine.connect() as connection:
            mode = await connection.scalar(text("PRAGMA journal_mode"))
            timeout = await connection.scalar(text("PRAGMA busy_timeout"))
        await engine.dispose()
        return mode, timeout

    assert asyncio.run(modes()) == ("wal", 30_000)


def test_the_database_tells_the_time(numbers: Engine) -> None:
    with read_transaction(numbers) as connection:
        now = connection.execute(select(clock_sql(connection.dialect))).scalar_one()
    assert isinstance(now, float)
    assert now == pytest.approx(time.time(), abs=30)


def test_the_clock_of_postgresql_goes_on_within_a_transaction(postgresql_url: URL) -> None:
    engine = engines.worker_engine(postgresql_url)
    with read_transaction(engine) as connection:
        clock = select(clock_sql(connection.dialect))
        first = connection.execute(clock).scalar_one()
        connection.execute(text("SELECT pg_sleep(0.01)"))
        assert connection.execute(clock).scalar_one() > first
    engine.dispose()


def test_a_session_a_scoped_session_and_a_connection_tell_their_dialect(numbers: Engine) -> None:
    scoped = scoped_session(sessionmaker(numbers))
    with numbers.connect() as connection, Session(numbers) as session:
        found = {dialect_of(each).name for each in (connection, session, scoped)}
    assert found == {numbers.dialect.name}


@pytest.mark.parametrize(
    ("given", "driver", "query"),
    [
        ("sqlite+aiosqlite:///shop.db", "sqlite+pysqlite", {}),
        ("postgres://u:p@h/d", "postgresql+psycopg", {}),
        ("postgresql+asyncpg://u:p@h/d?ssl=require", "postgresql+psycopg", {"sslmode": "require"}),
        ("postgresql+psycopg2://u:p@h/d?connect_timeout=3", "postgresql+psycopg", None),
    ],
)
def test_a_worker_uses_the_synchronous_driver_of_the_same_database(
    given: str, driver: str, query: dict[str, str] | None
) -> None:
    url = engines.parse_url(given)
    assert url.drivername == driver
    assert url.database in ("shop.db", "d")
    if query is not None:
        assert dict(url.query) == query


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("shop.db", "is not a URL"),
        ("mysql://root:hush@localhost/shop", "must be SQLite or PostgreSQL, not mysql"),
        ("sqlite://", "one in memory"),
        ("sqlite:///:memory:", "one in memory"),
        ("sqlite:///file:shop?mode=memory&cache=shared&uri=true", "one in memory"),
    ],
)
def test_a_wrong_url_is_refused_at_once_without_its_password(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        engines.worker_engine(url)
    assert "hush" not in str(caught.value)


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'postroom\[postgres\]'"):
        engines.worker_engine("postgresql://u:hush@localhost/shop")


def _complaint(url: URL | str, statement: str = "CREATE TABLE t (n INTEGER)") -> str:
    engine = engines.worker_engine(url)
    with (
        pytest.raises(ConfigError) as caught,
        explaining_setup_errors(engine.url),
        write_transaction(engine) as connection,
    ):
        connection.execute(text(statement))
    engine.dispose()
    complaint = str(caught.value)
    assert complaint.count("\n") <= 1
    assert complaint.startswith("the database ")
    return complaint


def test_a_wrong_password_is_told_without_it(postgresql_url: URL) -> None:
    complaint = _complaint(postgresql_url.set(password="not-it"))
    assert "password authentication failed" in complaint
    assert "check the user and the password" in complaint
    assert "not-it" not in complaint


def test_a_database_that_does_not_exist_is_told(postgresql_url: URL) -> None:
    complaint = _complaint(postgresql_url.set(database="nowhere"))
    assert 'database "nowhere" does not exist; create it' in complaint


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("postgresql://u:hush@127.0.0.1:1/shop", "check host and port"),
        ("postgresql://u:hush@no-such-host.invalid/shop", "check the host name"),
        ("postgresql://u:hush@127.0.0.1:1/shop?bogus=1", "after the question mark"),
    ],
)
def test_a_server_that_cannot_be_reached_is_told(url: str, advice: str) -> None:
    complaint = _complaint(url)
    assert advice in complaint
    assert "hush" not in complaint


def test_a_user_that_may_not_make_tables_is_told(postgresql_url: URL) -> None:
    owner = engines.worker_engine(postgresql_url)
    with write_transaction(owner) as connection:
        connection.execute(text("CREATE ROLE guest LOGIN PASSWORD 'guest'"))
    try:
        guest = postgresql_url.set(username="guest", password="guest")
        assert "permission denied" in _complaint(guest)
    finally:
        with write_transaction(owner) as connection:
            connection.execute(text("DROP ROLE guest"))
        owner.dispose()


def test_a_sqlite_file_in_a_missing_directory_is_told(tmp_path: Path) -> None:
    assert f"no directory {tmp_path}/no;" in _complaint(f"sqlite:///{tmp_path}/no/shop.db")


def test_a_directory_or_another_kind_of_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear customer, " * 100)
    assert "name another file" in _complaint(f"sqlite:///{tmp_path}/letter")
    assert "check that it is a file" in _complaint(f"sqlite:///{tmp_path}")


def test_a_sqlite_file_that_may_only_be_read_is_told(sqlite_url: URL) -> None:
    engine = engines.worker_engine(sqlite_url)
    with write_transaction(engine) as connection:
        connection.execute(text("CREATE TABLE number (n INTEGER)"))
    engine.dispose()
    complaint = _complaint(f"sqlite:///file:{sqlite_url.database}?mode=ro&uri=true")
    assert "make the file and its directory writable" in complaint


def test_an_error_that_is_no_matter_of_set_up_passes_through(numbers: Engine) -> None:
    with (
        pytest.raises((OperationalError, ProgrammingError)),
        explaining_setup_errors(numbers.url),
        read_transaction(numbers) as connection,
    ):
        connection.execute(text("SELECT * FROM nothing"))


def test_a_call_that_postgresql_does_not_answer_ends_at_its_deadline(postgresql_url: URL) -> None:
    engine = engines.worker_engine(postgresql_url, deadline_s=0.2)
    started = time.monotonic()
    with (
        pytest.raises(OperationalError, match=r"no answer within 0\.2 s"),
        read_transaction(engine) as c,
    ):
        c.execute(text("SELECT pg_sleep(30)"))
    assert time.monotonic() - started < 10
    with read_transaction(engine) as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


def test_nothing_is_kept_in_a_session_of_postgresql(postgresql_url: URL) -> None:
    engine = engines.worker_engine(postgresql_url)
    for _ in range(2):
        with read_transaction(engine) as connection:
            for _ in range(10):
                connection.execute(text("SELECT 1"))
            prepared = connection.execute(text("SELECT count(*) FROM pg_prepared_statements"))
            assert prepared.scalar() == 0
            level = connection.execute(text("SHOW transaction_isolation")).scalar()
            assert level == "read committed"
    engine.dispose()
