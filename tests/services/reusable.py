"""One PostgreSQL database for test after test, each of which finds it as if it were new.

Making a database with our tables and dropping it takes 200 ms, emptying them 20 ms. A test may do
whatever it likes: what cannot be undone by emptying the tables costs the database, not the next
test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from sqlalchemy import URL

from tests.services.postgresql import Postgresql
from tests.services.waiting import wait_for

#: Sessions take a moment to go after their clients have.
_GONE_WITHIN_S = 1.0

_SESSIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""

#: All that a database holds apart from rows. Objects that are not PostgreSQL's own have numbers
#: from 16384 on; whatever changes one leaves another ``xmin`` (but in pg_class, where TRUNCATE
#: and ANALYZE leave one, too).
_DEFINITIONS = """
SELECT 'class', oid::text,
       row(relname, relnamespace, relkind, relpersistence, relowner, reloptions, relacl)::text
FROM pg_class WHERE oid >= 16384
UNION ALL
SELECT 'attribute', attrelid || '.' || attnum, xmin::text FROM pg_attribute
WHERE attrelid >= 16384
UNION ALL SELECT 'default', oid::text, xmin::text FROM pg_attrdef
UNION ALL SELECT 'constraint', oid::text, xmin::text FROM pg_constraint WHERE oid >= 16384
UNION ALL SELECT 'index', indexrelid::text, xmin::text FROM pg_index WHERE indexrelid >= 16384
UNION ALL SELECT 'trigger', oid::text, xmin::text FROM pg_trigger
UNION ALL SELECT 'rule', oid::text, xmin::text FROM pg_rewrite WHERE oid >= 16384
UNION ALL SELECT 'policy', oid::text, xmin::text FROM pg_policy
UNION ALL SELECT 'function', oid::text, xmin::text FROM pg_proc WHERE oid >= 16384
UNION ALL SELECT 'type', oid::text, xmin::text FROM pg_type WHERE oid >= 16384
UNION ALL SELECT 'extension', oid::text, xmin::text FROM pg_extension
UNION ALL SELECT 'schema', oid::text, xmin::text FROM pg_namespace
WHERE nspname NOT LIKE 'pg\\_%temp\\_%'
UNION ALL SELECT 'setting', setrole::text, setconfig::text FROM pg_db_role_setting
WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

_TABLES = "SELECT quote_ident(relname) FROM pg_class WHERE oid >= 16384 AND relkind = 'r'"


class ReusableDatabase:
    """A database that ``prepare`` has filled with tables, for one test at a time.

    Rows of the tables in ``kept`` stay, and must be as ``prepare`` left them.
    """

    def __init__(
        self, server: Postgresql, prepare: Callable[[URL], None], *, kept: tuple[str, ...] = ()
    ) -> None:
        self._server = server
        self._prepare = prepare
        self._kept = kept
        self._url: URL | None = None
        self._as_prepared: list[Any] = []
        self._emptying = ""

    def lend(self) -> URL:
        """Return the database's URL: the tables are there, and no row is in them."""
        if self._url is None:
            self._url = self._server.create_database()
            self._prepare(self._url)
            with self._connect(self._url) as connection:
                self._as_prepared = self._contents(connection)
                tables = {name for (name,) in connection.execute(_TABLES)} - set(self._kept)
            names = ", ".join(f"public.{name}" for name in sorted(tables))
            self._emptying = f"TRUNCATE {names} RESTART IDENTITY"
        return self._url

    def take_back(self) -> None:
        """Empty the database for the next test; drop it where that is not enough."""
        if self._url is not None and not self._emptied(self._url):
            self.drop()

    def drop(self) -> None:
        """Drop the database, whoever is still connected."""
        if self._url is not None:
            self._server.drop_database(self._url)
            self._url = None

    def _emptied(self, url: URL) -> bool:
        """Empty the tables; return whether the database is as it was prepared.

        It is not where somebody is still connected: who works on belongs to the test before.
        """
        try:
            with self._connect(url) as connection:
                wait_for(lambda: self._is_alone(connection), "the others to go", _GONE_WITHIN_S)
                connection.execute(self._emptying)  # type: ignore[call-overload]
                return self._contents(connection) == self._as_prepared
        except (psycopg.Error, TimeoutError):
            return False

    def _contents(self, connection: psycopg.Connection[Any]) -> list[Any]:
        found = connection.execute(_DEFINITIONS).fetchall()
        for table in self._kept:
            rows = connection.execute(f"TABLE public.{table}")  # type: ignore[call-overload]
            found += [(table, *map(str, row)) for row in rows]
        return sorted(found)

    @staticmethod
    def _is_alone(connection: psycopg.Connection[Any]) -> bool:
        return connection.execute(_SESSIONS).fetchone() == (0,)

    @staticmethod
    def _connect(url: URL) -> psycopg.Connection[Any]:
        """Connect; give up where a lock of somebody's stands in the way."""
        return psycopg.connect(
            url.set(drivername="postgresql").render_as_string(hide_password=False),
            autocommit=True,
            connect_timeout=5,
            options="-c lock_timeout=2s",
        )
