"""A PostgreSQL server of our own."""

from __future__ import annotations

import pwd
import signal
from itertools import count
from typing import Any, Literal

import psycopg
from sqlalchemy import URL

from tests.services.daemon import Daemon
from tests.services.programs import require
from tests.services.waiting import free_port

PASSWORD = "only-for-tests"

#: Small, but as safe as a real one: fsync stays on.
_CONFIGURATION = {
    "max_prepared_transactions": "4",  # for sessions of two phases
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_min_messages": "fatal",
}

#: How PostgreSQL understands the signals (its documentation, section 18.5).
_SHUTDOWN = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Postgresql:
    """A server with the superuser ``postroom``; make databases in it, restart it, hurt it."""

    def __init__(self) -> None:
        self._postgres = str(require("postgres"))
        self._daemon = Daemon("postgresql", user=_unprivileged())
        self._folder = self._daemon.folder / "data"
        self._numbers = count(1)
        self.port = free_port()
        self._initialise(str(require("initdb")))
        self.start()

    def _initialise(self, initdb: str) -> None:
        password = self._daemon.folder / "password"
        password.write_text(PASSWORD)
        self._daemon.give(password)
        authentication = ("--auth", "scram-sha-256", "--pwfile", str(password))
        place = ("--pgdata", str(self._folder), "--no-sync", "--username", "postroom")
        self._daemon.run(
            initdb, *place, *authentication, "--locale", "C.UTF-8", "--encoding", "UTF8"
        )

    def start(self) -> None:
        """Start the server, and return when it answers."""
        settings = _CONFIGURATION | {
            "port": str(self.port),
            "unix_socket_directories": str(self._daemon.folder),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        place = ("-D", str(self._folder))
        self._daemon.start(self._postgres, *place, *options, is_ready=self._answers)

    def stop(self, how: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server: ``fast`` ends every session, ``immediate`` is a crash."""
        self._daemon.stop(_SHUTDOWN[how])

    def restart(self, how: Literal["fast", "immediate"] = "fast") -> None:
        """Stop and start the server, on the same port."""
        self.stop(how)
        self.start()

    def remove(self) -> None:
        """Stop the server and forget its data."""
        self.stop("immediate")
        self._daemon.remove()

    def url(self, database: str, driver: str = "psycopg") -> URL:
        """Return the URL of a database."""
        return URL.create(
            f"postgresql+{driver}",
            username="postroom",
            password=PASSWORD,
            host="127.0.0.1",
            port=self.port,
            database=database,
        )

    def create_database(self) -> URL:
        """Make an empty database that nobody else uses."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop_database(self, url: URL) -> None:
        """Drop a database, whoever is still connected."""
        self.execute(f"DROP DATABASE IF EXISTS {url.database} WITH (FORCE)")

    def terminate_backends(self, url: URL) -> int:
        """End every session of a database; return how many there were."""
        sessions = self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            url.database,
        )
        return len(sessions)

    def execute(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement as superuser, outside a transaction."""
        with self._connect() as connection:
            cursor = connection.execute(statement, parameters)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="postroom",
            password=PASSWORD,
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        )

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True


def _unprivileged() -> str:
    """PostgreSQL refuses to run as root: use the user of Debian's package, or nobody."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"
