"""A database that refuses what a worker needs is said to refuse, and nobody waits for ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.orm import Session

from postroom import Message, Outbox, WorkerConfig
from postroom.delivery import coordinator
from postroom.errors import ConfigError
from postroom.storage import schema
from postroom.storage.engine import configure_sqlite
from postroom.testing import FaultyRelay
from tests.integration.terminal import Terminal
from tests.services.waiting import wait_for

ADA = "ada@example.com"
ROLE, PASSWORD = "postroom_clerk", "clerk"
REFUSED = "the database refuses: permission denied for table postroom_queue; grant it"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is patient here."""
    monkeypatch.setattr(coordinator, "_PATIENCE", 3)


@pytest.fixture
def owner(postgresql_url: URL) -> Iterator[Engine]:
    """An engine of who owns the tables."""
    engine = create_engine(postgresql_url)
    schema.create(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def clerk(owner: Engine) -> Iterator[URL]:
    """The same database for a user who may read and enqueue, and not claim."""
    with owner.begin() as connection:
        connection.execute(text(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'"))
        connection.execute(text(f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {ROLE}"))
        connection.execute(text(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {ROLE}"))
    yield owner.url.set(username=ROLE, password=PASSWORD)
    with owner.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {ROLE}"))
        connection.execute(text(f"DROP ROLE {ROLE}"))


def outbox_at(url: URL, relay: FaultyRelay) -> Outbox:
    return Outbox(
        relay.url,
        engine=create_engine(url),
        sender="shop@example.com",
        worker=WorkerConfig(poll_interval_s=0.05),
        notify=False,
    )


@pytest.fixture
def outbox(clerk: URL, relay: FaultyRelay) -> Iterator[Outbox]:
    outbox = outbox_at(clerk, relay)
    with Session(outbox.engine) as session, session.begin():
        outbox.enqueue(session, Message(text="x"), to=[ADA])
    yield outbox
    outbox.close()


def test_what_waits_for_an_end_is_told_that_the_database_refuses(outbox: Outbox) -> None:
    with pytest.raises(ConfigError, match=REFUSED):
        outbox.worker().drain()
    with pytest.raises(ConfigError, match=REFUSED):
        outbox.worker().run(until_empty=True)
    with Session(outbox.engine) as session, pytest.raises(ConfigError, match=REFUSED):
        outbox.deliver(session, 1, timeout_s=60)


def test_a_worker_goes_on_once_it_is_granted_what_it_needs(
    outbox: Outbox, owner: Engine, relay: FaultyRelay
) -> None:
    with outbox.running():
        worker = outbox._in_process._worker
        assert worker is not None
        wait_for(lambda: worker.refused, "the worker to be refused")
        assert worker.is_running
        with owner.begin() as connection:
            connection.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}"))
        relay.wait_for(1)
        wait_for(lambda: worker.refused is None, "the worker to be well")


@pytest.mark.parametrize("processes", [(), ("--processes", "2")], ids=["one", "two"])
def test_the_command_ends_with_an_error_of_one_line(
    bare_terminal: Terminal, clerk: URL, relay: FaultyRelay, processes: tuple[str, ...]
) -> None:
    bare_terminal.set(
        database_url=clerk.render_as_string(hide_password=False),
        relay=relay.url,
        sender="shop@example.com",
        log_level="error",
    )
    shown = bare_terminal.run("worker", "--drain", *processes, code=3)
    if not processes:
        assert shown.err.splitlines() == [f"postroom: {REFUSED}, or use another user"]


def test_a_sqlite_file_that_must_not_be_written_is_said_to_be_so(
    sqlite_url: URL, relay: FaultyRelay
) -> None:
    writable = create_engine(sqlite_url)
    configure_sqlite(writable)
    schema.create(writable)
    outbox = outbox_at(sqlite_url, relay)
    with Session(writable) as session, session.begin():
        outbox.enqueue(session, Message(text="x"), to=[ADA])
    outbox.close()
    read_only = URL.create(
        "sqlite", database=f"file:{sqlite_url.database}", query={"mode": "ro", "uri": "true"}
    )
    outbox = outbox_at(read_only, relay)
    with pytest.raises(ConfigError, match=r"refuses: .*readonly database; make the file"):
        outbox.worker().drain()
    outbox.close()
    writable.dispose()


def test_a_password_that_is_changed_meanwhile_is_named(outbox: Outbox, owner: Engine) -> None:
    with outbox.running():
        worker = outbox._in_process._worker
        assert worker is not None
        with owner.begin() as connection:
            connection.execute(text(f"ALTER ROLE {ROLE} PASSWORD 'another'"))
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :role"
                ),
                {"role": ROLE},
            )
        wait_for(
            lambda: "password authentication failed" in str(worker.refused),
            "the worker to say what the database says now",
        )
