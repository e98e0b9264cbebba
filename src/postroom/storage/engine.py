"""Engines, transactions and the database's clock.

`worker_engine` makes the engine that workers use. An application's engine and sessions belong to
the application; all we offer to change about them is `configure_sqlite`.
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

#: What runs statements in the caller's transaction. ``Any``: an application may have a session
#: class of its own, as Flask-SQLAlchemy has.
SessionOrConnection: TypeAlias = Connection | Session | scoped_session[Any]

#: Bound values in one statement; SQLite and asyncpg stop at about 32,000.
MAX_BOUND_VALUES = 10_000

#: How long SQLite waits for another process's write before it reports "database is locked".
SQLITE_BUSY_S = 30.0

#: Execution option of a `Connection`: its transactions write. See `write_transaction`.
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

#: One time for the whole statement, and allowed in an index condition; clock_timestamp() is
#: neither.
_POSTGRESQL_CLOCK = "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"

#: 2440587.5 is 1970-01-01 as a Julian day; 'now' counts milliseconds. (unixepoch('subsec') would
#: need SQLite 3.42.)
_SQLITE_CLOCK = "((julianday('now') - 2440587.5) * 86400.0)"

_CLOCKS: dict[str, ColumnElement[float]] = {
    "postgresql": literal_column(_POSTGRESQL_CLOCK, Double()),
    "sqlite": literal_column(_SQLITE_CLOCK, Double()),
}

#: The same time as the tables store dates: on SQLite as text, with six digits after the point.
_DATES: dict[str, ColumnElement[datetime]] = {
    "postgresql": literal_column("statement_timestamp()", UtcDateTime()),
    "sqlite": literal_column("strftime('%Y-%m-%d %H:%M:%f000', 'now')", UtcDateTime()),
}


def clock_sql(dialect: Dialect) -> ColumnElement[float]:
    """Return an expression for the database's own time: seconds since the epoch, UTC."""
    return _CLOCKS[dialect.name]


def now_sql(dialect: Dialect) -> ColumnElement[datetime]:
    """Return an expression for the database's own time: a date, as the tables store it."""
    return _DATES[dialect.name]


def dialect_of(executor: SessionOrConnection) -> Dialect:
    """Return the dialect of ``executor``, without opening a connection."""
    if isinstance(executor, Connection):
        return executor.dialect
    return executor.get_bind().dialect


@contextmanager
def write_transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction that writes; commit it at the end, or roll it back.

    SQLite takes its write lock at once (BEGIN IMMEDIATE) and waits for it. A transaction that reads
    first and then wants to write cannot wait, and fails with "database is locked".

    Args:
        engine: The database.
    """
    with writable_connection(engine) as connection, begin_write(connection):
        yield connection


def writable_connection(engine: Engine) -> Connection:
    """Return a connection for transactions that write; the caller closes it."""
    return engine.connect().execution_options(**{WRITES: True})


@contextmanager
def begin_write(connection: Connection) -> Iterator[None]:
    """Run one transaction on a `writable_connection`; commit it at the end, or roll it back."""
    with connection.begin():
        begin_immediate(connection)
        yield


def begin_immediate(connection: Connection) -> None:
    """Begin a transaction on SQLite if none is open: by default the driver begins too late.

    Needed before a savepoint too: the driver would commit when that savepoint is released.
    """
    if connection.dialect.name != "sqlite":
        return
    driver_connection: Any = connection.connection.driver_connection
    if not driver_connection.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def read_transaction(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction that only reads."""
    with engine.connect() as connection, connection.begin():
        yield connection


def worker_engine(url: URL | str, *, deadline_s: float | None = 60.0) -> Engine:
    """Return an engine for workers; nothing is connected yet.

    Async drivers are replaced by the synchronous one of the same database. PostgreSQL is used
    without session state, so that PgBouncer can pool transactions.

    Args:
        url: The database's URL.
        deadline_s: Seconds that PostgreSQL may take for one call, which then raises
            `OperationalError` and closes its connection. None means no limit. Default: 60.

    Raises:
        ConfigError: ``url`` is not a URL, or names another database than SQLite and PostgreSQL or a
            SQLite database in memory (which a worker's own thread could not see); or the driver is
            not installed.
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

    Args:
        url: The database's URL, with any driver.

    Raises:
        ConfigError: it is not a URL, or not of SQLite or PostgreSQL. The text has no password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError, with its text
        raise ConfigError(
            "the database URL is not a URL; write it like sqlite:///shop.db or "
            "postgresql://user:password@host/name"
        ) from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return parsed.set(drivername="sqlite+pysqlite")
    if backend in ("postgresql", "postgres"):
        return _for_psycopg(parsed)
    raise ConfigError(f"the database must be SQLite or PostgreSQL, not {backend}")


def _for_psycopg(url: URL) -> URL:
    """Translate asyncpg's spelling of one option; libpq calls it ``sslmode``."""
    query = dict(url.query)
    if "asyncpg" in url.drivername and "ssl" in query:
        query.setdefault("sslmode", query.pop("ssl"))
    return url.set(drivername="postgresql+psycopg", query=query)


def _postgresql_engine(url: URL) -> Engine:
    options = {name: value for name, value in _POSTGRESQL_OPTIONS.items() if name not in url.query}
    try:
        return create_engine(
            url,
            # PgBouncer may use another server for each transaction: nothing can be prepared.
            connect_args={"prepare_threshold": None, **options},
            # Sent with each BEGIN, whatever the default of the role or the database is.
            isolation_level="READ COMMITTED",
            use_native_hstore=False,
        )
    except ModuleNotFoundError:
        raise ConfigError(
            "the PostgreSQL driver psycopg is not installed; run: pip install 'postroom[postgres]'"
        ) from None


def enforce_deadline(
    engine: Engine, deadline_s: float, monotonic: Callable[[], float] = time.monotonic
) -> None:
    """Make every call on a new connection of ``engine`` end within ``deadline_s``.

    A call that takes longer raises `OperationalError` and closes its connection: the server rolls
    the transaction back, and the pool opens another connection. Keepalives do not detect a server
    that hangs while its kernel still answers.

    Args:
        engine: An engine with the driver psycopg.
        deadline_s: Seconds for one call.
        monotonic: The clock.
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


def _sqlite_engine(url: URL) -> Engine:
    if _is_in_memory(url):
        raise ConfigError(
            "the SQLite database must be a file: a worker's connections cannot see one in memory; "
            "use sqlite:////absolute/path.db"
        )
    engine = create_engine(url)
    configure_sqlite(engine)

    @event.listens_for(engine, "do_connect")
    def create_file(dialect: Dialect, record: Any, *connect: Any) -> None:
        _create_privately(url)

    @event.listens_for(engine, "connect")
    def disable_driver_begin(connection: Any, record: Any) -> None:
        # The driver would begin by itself: deferred, and only before an INSERT or UPDATE.
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _create_privately(url: URL) -> None:
    """Create a missing file so that only its owner can read the mail, whatever the umask is.

    SQLite takes an empty file for an empty database, and gives its mode to the files beside it
    (https://www.sqlite.org/src/file/src/os_unix.c, findCreateFileMode). An existing file is left as
    it is. If the file cannot be created, SQLite says why.
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
    """Configure every new connection of ``engine`` for concurrent use.

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

    The driver begins one only before an INSERT, UPDATE or DELETE: releasing a savepoint that came
    first would commit
    (https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-serializable). The write lock
    is taken at once, as everywhere: see `write_transaction`.
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
        # SQLAlchemy does not own it yet, and would leave it to the garbage collector.
        connection.close()
        raise


def _use_wal(cursor: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
    """Switch the file to write-ahead logging, once for its life.

    The busy timeout does not apply to the switch: SQLite answers "locked" at once while another
    process uses the file
    (https://www.sqlite.org/wal.html#sometimes_queries_return_sqlite_busy_in_wal_mode).
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
