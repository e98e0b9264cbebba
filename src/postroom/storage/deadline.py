"""PostgreSQL connections on which no call waits for ever.

libpq's keepalives notice a host that is gone. They do not notice a server that hangs while its
kernel still answers, nor a statement that waits for a lock without end; a timeout set in the
server's session would notice neither through PgBouncer, which gives every transaction another
session. So the client itself stops waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

from sqlalchemy import Engine, event


def bound(
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
