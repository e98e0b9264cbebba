"""An outbox in an empty database, and the check that everything about a mail was recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import URL, Engine, create_engine, func, select
from sqlalchemy.orm import Session

from bench.harness import letters
from bench.harness.databases import Database
from postroom import Outbox
from postroom.storage import engine as engines
from postroom.storage.tables import Tables, tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An application's side of an outbox."""

    url: URL
    engine: Engine
    outbox: Outbox
    relay: str

    @property
    def tables(self) -> Tables:
        """The outbox's tables."""
        return tables()


def relay_url(port: int, *, connections: int = 4) -> str:
    """Return the relay URL of a sink."""
    return f"smtp://127.0.0.1:{port}?tls=off&connections={connections}"


@contextmanager
def opened(database: Database, relay: str) -> Iterator[Opened]:
    """Yield an outbox with fresh tables."""
    with database() as url:
        engine = create_engine(url)
        engines.configure_sqlite(engine)
        outbox = Outbox(relay, engine=engine, templates=letters.TEMPLATES)
        outbox.create_tables()
        try:
            yield Opened(url=url, engine=engine, outbox=outbox, relay=relay)
        finally:
            engine.dispose()


def check_all_recorded(opened: Opened, count: int) -> None:
    """Fail unless ``count`` recipients are accepted, each by one attempt, and nothing is left."""
    ours = opened.tables
    with Session(opened.engine) as session:
        accepted = session.scalar(
            select(func.count())
            .select_from(ours.recipient)
            .where(ours.recipient.c.state == "accepted", ours.recipient.c.reply_code == 250)
        )
        attempted = session.scalar(
            select(func.count(func.distinct(ours.attempt.c.recipient_id))).where(
                ours.attempt.c.outcome == "accepted"
            )
        )
        attempts = session.scalar(select(func.count()).select_from(ours.attempt))
        left = session.scalar(select(func.count()).select_from(ours.queue))
    found = (accepted, attempted, attempts, left)
    if found != (count, count, count, 0):
        raise AssertionError(
            f"expected {count} recipients accepted by one attempt each and an empty queue, "
            f"got: accepted, attempted, attempts, left = {found}"
        )
