"""Databases for one run each: a SQLite file, or a PostgreSQL server of the bench's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeAlias

from sqlalchemy import URL

from bench.harness.contest import Absent
from bench.harness.places import scratch
from tests.services.postgresql import Postgresql
from tests.services.programs import find
from tests.services.redis import Redis

#: Opens an empty database for one run.
Database: TypeAlias = Callable[[], AbstractContextManager[URL]]


@contextmanager
def sqlite() -> Iterator[URL]:
    """Yield the URL of a SQLite file that does not exist yet."""
    with scratch() as folder:
        yield URL.create("sqlite", database=str(folder / "outbox.sqlite"))


class Servers:
    """Servers that outlive a run, started when first asked for, and stopped at the end."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._postgresql: Postgresql | None = None
        self._redis: Redis | None = None

    @property
    def postgresql_server(self) -> Postgresql:
        """The PostgreSQL server, fsync on, as small as the tests use it."""
        if find("postgres") is None:
            raise Absent("PostgreSQL is missing; run: apt-get install postgresql")
        if self._postgresql is None:
            self._postgresql = Postgresql()
            self._stack.callback(self._postgresql.remove)
        return self._postgresql

    @contextmanager
    def postgresql(self) -> Iterator[URL]:
        """Yield the URL of an empty PostgreSQL database.

        What earlier runs wrote is flushed first: their checkpoint should not fall into this run.
        """
        server = self.postgresql_server
        url = server.create_database()
        server.execute("CHECKPOINT")
        try:
            yield url
        finally:
            server.drop_database(url)

    def redis(self) -> str:
        """Return the URL of a Redis server that nobody else uses."""
        if find("redis-server") is None:
            raise Absent("Redis is missing; run: apt-get install redis-server")
        if self._redis is None:
            self._redis = Redis()
            self._stack.callback(self._redis.remove)
        return self._redis.url

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
