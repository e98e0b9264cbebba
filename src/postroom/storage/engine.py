"""The worker's own database engine, its transactions, and the database's clock.

An application's engine and sessions are the application's; `configure_sqlite` is the one thing
we offer to do to them. What a worker claims and records goes through `worker_engine`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Dialect,
    Double,
    Engine,
    create_engine,
    event,
    literal_column,
    make_url,
)
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session, scoped_session

from postroom.errors import ConfigError
from postroom.storage.database_url import sqlite_file
from postroom.storage.tables import UtcDateTime


def enforce_deadline(
    engine: Engine, deadline_s: float, monotonic: Callable[[], float] = time.monotonic
) -> None:
    """Let every call on a new connection of ``engine`` end within ``deadline_s``.

    A call that does not is an `OperationalError` that also closes its connection: the server
    rolls its transaction back, and the pool opens another one. ``engine`` is psycopg's.
    """
    psycopg: Any = engine.dialect.dbapi

    class BoundedConnection(psycopg.Connection):  # type: ignore[misc]
        """A psycopg connection with a client-side deadline."""

        def wait(self, calls: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:
            return super().wait(self._watched(calls), *args, **options)

        def _watched(self, calls: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
            # psycopg resumes its generators every 0.1 s, whether or not the socket is ready.
            give_up_at = monotonic() + deadline_s
            try:
                wanted = next(calls)
                while True:
                    ready = yield wanted
                    if not ready and monotonic() > give_up_at:
                        self.pgconn.finish()
                        raise psycopg.OperationalError(f"no answer within {deadline_s:g} s")
                    wanted = calls.send(ready)
            except StopIteration as end:
                return end.value

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, args: Any, options: Any) -> Any:
        return BoundedConnection.connect(*args, **options)


#: Whatever runs statements in the caller's transaction. ``Any``: an application's sessions may be
#: of a class of their own, as Flask-SQLAlchemy's are.
SessionOrConnection: TypeAlias = Connection | Session | scoped_session[Any]

#: How long SQLite waits for another process's write before it reports "database is locked".
SQLITE_BUSY_S = 30.0

#: Execution option of a `Connection`: its transactions write. See `write`.
WRITES = "postroom_write"

#: libpq's own deadlines: to connect, for an answer to what was sent, and for a silent peer that
#: a firewall or a crashed host took away (https://www.postgresql.org/docs/current/libpq-connect.html).
_POSTGRESQL_OPTIONS: dict[str, str | int] = {
    "application_name": "postroom",
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}

#: One statement sees one time, and an index condition may hold it: clock_timestamp() would not.
_POSTGRESQL_CLOCK = "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"

#: 2440587.5 is 1970-01-01 as a Julian day; 'now' counts milliseconds. (unixepoch('subsec') would
#: need SQLite 3.42.)
_SQLITE_CLOCK = "((julianday('now') - 2440587.5) * 86400.0)"

_CLOCKS: dict[str, ColumnElement[float]] = {
    "postgresql": literal_column(_POSTGRESQL_CLOCK, Double()),
    "sqlite": literal_column(_SQLITE_CLOCK, Double()),
}

#: The same as the tables keep dates: on SQLite as text, with six digits after the point.
_DATES: dict[str, ColumnElement[datetime]] = {
    "postgresql": literal_column("statement_timestamp()", UtcDateTime()),
    "sqlite": literal_column("strftime('%Y-%m-%d %H:%M:%f000', 'now')", UtcDateTime()),
}


def clock_sql(dialect: Dialect) -> ColumnElement[float]:
    """Return the database's own time as an expression: seconds since the epoch, UTC."""
    return _CLOCKS[dialect.name]


def now_sql(dialect: Dialect) -> ColumnElement[datetime]:
    """Return the database's own time as an expression: a date, as the tables keep it."""
    return _DATES[dialect.name]


def dialect_of(executor: SessionOrConnection) -> Dialect:
    """Return the dialect that ``executor`` speaks, without opening a connection."""
    if isinstance(executor, Connection):
        return executor.dialect
    return executor.get_bind().dialect


@contextmanager
def write_transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection inside one transaction that writes; commit at the end, or roll back.

    SQLite takes its write lock at once (BEGIN IMMEDIATE) and waits for it: a transaction that
    first reads and then wants to write cannot wait, and fails with "database is locked".
    """
    with writable_connection(engine) as connection, begin_write(connection):
        yield connection


def writable_connection(engine: Engine) -> Connection:
    """Return a connection for transactions that write; the caller closes it."""
    return engine.connect().execution_options(**{WRITES: True})


@contextmanager
def begin_write(connection: Connection) -> Iterator[None]:
    """One transaction on a connection of `writing`; committed at the end, or rolled back."""
    with connection.begin():
        begin_immediate(connection)
        yield


def begin_immediate(connection: Connection) -> None:
    """Begin on SQLite where nothing else did: an application's engine leaves it to the driver.

    Before a savepoint, too: that of the driver's own making would commit when it is released.
    """
    if connection.dialect.name != "sqlite":
        return
    driver_connection: Any = connection.connection.driver_connection
    if not driver_connection.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def read_transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection inside one transaction that only reads."""
    with engine.connect() as connection, connection.begin():
        yield connection


def worker_engine(url: URL | str, *, deadline_s: float | None = 60.0) -> Engine:
    """Return an engine of ours for ``url``; nothing is connected yet.

    Async drivers are replaced by the synchronous one of the same database. PostgreSQL is used
    without any session state, so that PgBouncer may pool transactions; a call that it does not
    answer within ``deadline_s`` is an `OperationalError` and closes the connection.

    Raises:
        ConfigError: not a URL, a database other than SQLite and PostgreSQL, SQLite in memory
            (which a worker thread of its own could not see), or the driver is not installed.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(parsed)
    engine = _postgresql_engine(parsed)
    if deadline_s is not None:
        enforce_deadline(engine, deadline_s)
    return engine


def parse_url(url: URL | str) -> URL:
    """Return ``url`` with the driver that a worker uses.

    Raises:
        ConfigError: it is no URL, or none of SQLite or PostgreSQL. The text holds no password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError, with its text
        raise ConfigError(
            "expected the database URL to be like sqlite:///shop.db or "
            "postgresql://user:password@host/name, got: something that is no URL"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return parsed.set(drivername="sqlite+pysqlite")
    if backend in ("postgresql", "postgres"):
        return _for_psycopg(parsed)
    raise ConfigError(f"expected the database to be sqlite or postgresql, got: {backend}")


def _for_psycopg(url: URL) -> URL:
    """Take asyncpg's spelling of one option along; libpq calls it ``sslmode``."""
    query = dict(url.query)
    if "asyncpg" in url.drivername and "ssl" in query:
        query.setdefault("sslmode", query.pop("ssl"))
    return url.set(drivername="postgresql+psycopg", query=query)


def _postgresql_engine(url: URL) -> Engine:
    options = {name: value for name, value in _POSTGRESQL_OPTIONS.items() if name not in url.query}
    try:
        return create_engine(
            url,
            # PgBouncer gives every transaction another server: nothing may be prepared on one.
            connect_args={"prepare_threshold": None, **options},
            # Said in each BEGIN, whatever the role's or the database's default is.
            isolation_level="READ COMMITTED",
            use_native_hstore=False,
        )
    except ModuleNotFoundError:
        raise ConfigError(
            "expected the PostgreSQL driver psycopg to be installed, got: none; "
            "run: pip install 'postroom[postgres]'"
        ) from None


def _sqlite_engine(url: URL) -> Engine:
    if _is_in_memory(url):
        raise ConfigError(
            "expected the SQLite database to be a file, got: one in memory; "
            "a worker's connections could not see it: use sqlite:////absolute/path.db"
        )
    engine = create_engine(url)
    configure_sqlite(engine)

    @event.listens_for(engine, "do_connect")
    def create_privately(dialect: Dialect, record: Any, *connect: Any) -> None:
        _create_privately(url)

    @event.listens_for(engine, "connect")
    def begin_by_ourselves(connection: Any, record: Any) -> None:
        # The driver would begin by itself, deferred, and only before an INSERT or UPDATE.
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _create_privately(url: URL) -> None:
    """Make the file where there is none: it will hold mail, and the umask lets others read.

    SQLite takes an empty file for an empty database, and gives its mode to those beside it
    (https://www.sqlite.org/src/file/src/os_unix.c, findCreateFileMode). A file that stands is
    left as it is; what is wrong with the place, SQLite says.
    """
    file = sqlite_file(url)
    if file is None or url.query.get("mode") in ("ro", "rw"):
        return
    with suppress(OSError):
        os.close(os.open(file.resolve(), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _is_in_memory(url: URL) -> bool:
    database = url.database or ""
    return (
        database in ("", ":memory:") or ":memory:" in database or url.query.get("mode") == "memory"
    )


def configure_sqlite(engine: Engine) -> None:
    """Make every new connection of ``engine`` share its file well; call it before the first use.

    Write-ahead logging (readers and a writer do not block each other), a busy timeout of 30 s
    instead of an error at once, foreign keys, commits that survive a power cut, and savepoints
    that a rollback undoes.

    Args:
        engine: The application's engine; of an `AsyncEngine` its ``sync_engine``. Nothing happens
            to one for another database than SQLite.
    """
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_connection)
        event.listen(engine, "savepoint", _begin_before_savepoint)


def _begin_before_savepoint(connection: Connection, name: str) -> None:
    """Keep a savepoint inside a transaction.

    The driver begins one before an INSERT, UPDATE or DELETE only: the release of a savepoint
    that came first would commit (https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-serializable).
    The write lock is taken at once, as everywhere: see `write`.
    """
    begin_immediate(connection)


def _prepare_connection(connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute(f"PRAGMA busy_timeout = {int(SQLITE_BUSY_S * 1000)}")
        _use_wal(cursor)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()
    except Exception:
        # SQLAlchemy has not taken it over yet, and would leave it to the garbage collector.
        connection.close()
        raise


def _use_wal(cursor: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
    """Switch the file to write-ahead logging, once for its life.

    The busy timeout does not hold for the switch itself: SQLite answers "locked" at once while
    another process uses the file (https://www.sqlite.org/wal.html#sometimes_queries_return_sqlite_busy_in_wal_mode).
    """
    give_up_at = monotonic() + SQLITE_BUSY_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode")
            if cursor.fetchone()[0] != "wal":
                cursor.execute("PRAGMA journal_mode = WAL")
            return
        except Exception as error:
            if "locked" not in str(error) or monotonic() > give_up_at:
                raise
            time.sleep(0.02)
