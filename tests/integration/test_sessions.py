"""Mail is part of the caller's transaction, or it is refused with what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, event, func, select
from sqlalchemy.exc import (
    IntegrityError,
    InvalidRequestError,
    PendingRollbackError,
    ResourceClosedError,
)
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)
from sqlalchemy.sql import text

from postroom import ConfigError, Message, Outbox
from postroom.storage import schema
from postroom.storage import tables as models

MESSAGE = Message(subject="Hello", text="Is it there?", sender="shop@example.com")

#: How an application comes to a connection that commits by itself.
AUTOCOMMIT: dict[str, dict[str, Any]] = {
    "of the engine": {"isolation_level": "AUTOCOMMIT"},
    "of its options": {"execution_options": {"isolation_level": "AUTOCOMMIT"}},
}
BY_DRIVER = {
    "sqlite": {"connect_args": {"isolation_level": None}},
    "postgresql": {"connect_args": {"autocommit": True}},
}

#: What writes into an outbox, in the caller's transaction.
CALLS: dict[str, Callable[[Outbox, Any], object]] = {
    "enqueue": lambda outbox, session: outbox.enqueue(session, MESSAGE, to=["ada@example.com"]),
    "cancel": lambda outbox, session: outbox.cancel(session, 1),
    "requeue": lambda outbox, session: outbox.retry(session, 1),
    "resolve": lambda outbox, session: outbox.resolve(session, 1, sent=True),
}


class Base(DeclarativeBase):
    """The application's metadata."""


class Pen(Base):
    """A row of the application's."""

    __tablename__ = "pen"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def count(engine: Engine, tables: models.Tables) -> Callable[[], int]:
    """Return how many messages anybody else can see."""

    def count() -> int:
        with engine.connect() as connection:
            return connection.scalar(select(func.count()).select_from(tables.message)) or 0

    return count


@pytest.fixture
def made(engine: Engine) -> Iterator[Callable[..., Engine]]:
    """Make engines on the same database, each in the application's own way."""
    engines: list[Engine] = []

    def make(**options: Any) -> Engine:
        engines.append(create_engine(engine.url, **options))
        return engines[-1]

    yield make
    for one in engines:
        one.dispose()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("how", [*AUTOCOMMIT, "of the driver", "of one session"])
def test_a_session_that_commits_by_itself_is_refused(
    outbox: Outbox,
    made: Callable[..., Engine],
    engine: Engine,
    count: Callable[[], int],
    how: str,
    call: Callable[[Outbox, Any], object],
) -> None:
    options = {"of the driver": BY_DRIVER[engine.dialect.name], "of one session": {}}
    chosen = made(**(AUTOCOMMIT | options)[how])
    with Session(chosen) as session:
        if how == "of one session":
            session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        with pytest.raises(ConfigError, match=r"autocommit mode .* without it"):
            call(outbox, session)
    with (
        chosen.connect() as connection,
        pytest.raises(ConfigError, match="autocommit")
        if how != "of one session"
        else nullcontext(),
    ):
        outbox.enqueue(connection, MESSAGE, to=["ada@example.com"])
    assert count() == 0


@pytest.mark.parametrize("commits_itself", [True, False])
def test_an_async_session_that_commits_by_itself_is_refused(
    outbox: Outbox, engine: Engine, count: Callable[[], int], commits_itself: bool
) -> None:
    drivers = {
        "sqlite": ("sqlite+aiosqlite",),
        "postgresql": ("postgresql+asyncpg", "postgresql+psycopg"),
    }
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"} if commits_itself else {}

    async def enqueue(url: URL) -> None:
        application = create_async_engine(url, **options)
        try:
            async with AsyncSession(application) as session:
                await outbox.aenqueue(session, MESSAGE, to=["ada@example.com"])
                await session.rollback()
        finally:
            await application.dispose()

    for driver in drivers[engine.dialect.name]:
        if commits_itself:
            with pytest.raises(ConfigError, match="autocommit"):
                asyncio.run(enqueue(engine.url.set(drivername=driver)))
        else:
            asyncio.run(enqueue(engine.url.set(drivername=driver)))
    assert count() == 0


@pytest.mark.parametrize("as_session", [True, False])
def test_an_engine_that_begins_by_itself_on_sqlite_is_used(
    outbox: Outbox, sqlite_url: URL, as_session: bool
) -> None:
    application = create_engine(sqlite_url, connect_args={"isolation_level": None})
    event.listen(application, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    schema.create(application)
    with Session(application) if as_session else application.connect() as caller:
        outbox.enqueue(caller, MESSAGE, to=["ada@example.com"])
        caller.rollback()
        receipt = outbox.enqueue(caller, MESSAGE, to=["ada@example.com"])
        caller.commit()
        assert outbox.status(caller, receipt).state == "queued"
        assert caller.scalar(text("SELECT count(*) FROM postroom_message")) == 1
    application.dispose()


# What else a session may be


def test_a_session_without_autoflush_and_one_in_a_savepoint_are_used(
    outbox: Outbox, engine: Engine, count: Callable[[], int]
) -> None:
    with Session(engine, autoflush=False) as session:
        with session.begin_nested() as savepoint:
            outbox.enqueue(session, MESSAGE, to=["ada@example.com"])
            savepoint.rollback()
        with session.begin_nested():
            outbox.enqueue(session, MESSAGE, to=["bob@example.com"])
        session.commit()
    assert count() == 1


def test_a_session_that_was_closed_begins_anew(
    outbox: Outbox, engine: Engine, count: Callable[[], int]
) -> None:
    session = Session(engine)
    session.close()
    outbox.enqueue(session, MESSAGE, to=["ada@example.com"])
    session.commit()
    session.close()
    scoped = scoped_session(sessionmaker(engine))
    outbox.enqueue(scoped, MESSAGE, to=["ada@example.com"])
    scoped.commit()
    scoped.remove()
    assert count() == 2


def test_a_session_that_is_over_says_so(outbox: Outbox, engine: Engine) -> None:
    closed = Session(engine, close_resets_only=False)
    closed.close()
    with pytest.raises(InvalidRequestError, match="closed"):
        outbox.enqueue(closed, MESSAGE, to=["ada@example.com"])
    connection = engine.connect()
    connection.close()
    with pytest.raises(ResourceClosedError, match="closed"):
        outbox.enqueue(connection, MESSAGE, to=["ada@example.com"])


def test_a_session_whose_flush_has_failed_says_so(outbox: Outbox, engine: Engine) -> None:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Pen(name="blue"), Pen(name="blue")])
        with pytest.raises(IntegrityError):
            session.flush()
        with pytest.raises(PendingRollbackError):
            outbox.enqueue(session, MESSAGE, to=["ada@example.com"])


def test_a_two_phase_session_prepares_its_mail(outbox: Outbox, postgresql_url: URL) -> None:
    application = create_engine(postgresql_url)
    schema.create(application)
    with Session(application, twophase=True) as session:
        receipt = outbox.enqueue(session, MESSAGE, to=["ada@example.com"])
        session.commit()
        assert outbox.status(session, receipt).state == "queued"
    application.dispose()


def test_what_is_no_session_is_refused_with_what_to_do(outbox: Outbox, engine: Engine) -> None:
    asynchronous = AsyncSession(create_async_engine("sqlite+aiosqlite://"))
    for given, said in (
        (engine, r"engine\.begin\(\)"),
        (asynchronous, "await outbox.aenqueue"),
        (sessionmaker(engine), "the session of the order"),
        (None, "the session of the order"),
    ):
        for call in CALLS.values():
            with pytest.raises(ConfigError, match=said):
                call(outbox, given)


def test_looking_at_the_session_asks_the_database_nothing(outbox: Outbox, engine: Engine) -> None:
    statements: list[str] = []
    event.listen(
        engine,
        "before_cursor_execute",
        lambda _c, _k, statement, *_: statements.append(statement),
    )
    with Session(engine) as session:
        outbox.enqueue(session, MESSAGE, to=["ada@example.com"])
        session.rollback()
    assert len(statements) <= 4
