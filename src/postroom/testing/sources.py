"""Where recorded mail is delivered from: the application's database, or the copy of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import URL, Engine, NullPool, create_engine
from sqlalchemy.exc import OperationalError

from postroom.storage import queries
from postroom.storage.engine import read, worker_engine
from postroom.storage.models import Tables
from postroom.storage.queries import MessageStatus
from postroom.testing.mirror import Mirror
from postroom.testing.recording import Recorded
from postroom.values.errors import ConfigError, UnknownMessage

#: An application that writes just now is done sooner; a test that holds its lock never is.
_LOCKED_AFTER_S = 0.5


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Source:
    """A database that a worker can deliver from, and the recorded mail to deliver."""

    engine: Engine
    tables: Tables
    recorded: list[Recorded]

    def statuses(self) -> list[MessageStatus]:
        """Return how each of the mails stands."""
        found: list[MessageStatus] = []
        with read(self.engine) as connection:
            for one in self.recorded:
                # The test may have deleted it meanwhile.
                with suppress(UnknownMessage):
                    found.append(queries.status(connection, self.tables, one.mail.id))
        return found


def sources_of(recorded: Sequence[Recorded]) -> list[Source]:
    """Return where ``recorded`` is to be delivered from.

    What is committed comes from where the application wrote it. What no other connection can see
    or change comes from its copy: it is not committed, the database is in memory, or the test
    holds SQLite's only write lock.
    """
    shared: dict[tuple[URL, Tables], Source] = {}
    copied: dict[Mirror, Source] = {}
    for one in recorded:
        place = (one.engine.url, one.tables)
        if one.deed.is_committed and place not in shared and (engine := _usable(place[0])):
            shared[place] = Source(engine=engine, tables=one.tables, recorded=[])
        if one.deed.is_committed and place in shared:
            shared[place].recorded.append(one)
            one.mirror.hold_back(one.mail.id)
        else:
            copy = Source(engine=one.mirror.engine, tables=one.mirror.tables, recorded=[])
            copied.setdefault(one.mirror, copy).recorded.append(one)
    return [*shared.values(), *copied.values()]


def _usable(url: URL) -> Engine | None:
    """Return a worker's engine for ``url``; None where a worker could not use it now."""
    try:
        engine = worker_engine(url)
    except ConfigError:  # in memory, or its driver for workers is not installed
        return None
    if engine.dialect.name == "sqlite" and _is_locked(engine.url):
        engine.dispose()
        return None
    return engine


def _is_locked(url: URL) -> bool:
    """Return whether somebody holds the write lock, and goes on holding it."""
    # Not a worker's engine, which would wait as long as workers do.
    probe = create_engine(url, poolclass=NullPool, connect_args={"timeout": _LOCKED_AFTER_S})
    try:
        with probe.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError:
        return True
    return False
