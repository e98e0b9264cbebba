"""A wakeup after the commit that counts, and after no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from postroom import Message, Outbox


class App:
    """An outbox, and how often it has asked for a wakeup."""

    def __init__(self) -> None:
        self.wakeups = 0
        self.outbox = Outbox(sender="shop@example.com")
        self.outbox.add_wakeup(self._wake)

    def _wake(self) -> None:
        self.wakeups += 1

    def enqueue(self, session: Session) -> None:
        self.outbox.enqueue(session, Message(text="x"), to=["ada@example.com"])


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


def test_one_commit_gives_one_wakeup_however_much_was_enqueued(app: App, session: Session) -> None:
    app.enqueue(session)
    app.enqueue(session)
    assert app.wakeups == 0
    session.commit()
    session.commit()
    assert app.wakeups == 1


def test_a_savepoint_gives_none_before_the_transaction_around_it(
    app: App, session: Session
) -> None:
    with session.begin_nested():
        app.enqueue(session)
        with session.begin_nested():
            app.enqueue(session)
    assert app.wakeups == 0
    session.commit()
    assert app.wakeups == 1


def test_a_rollback_gives_none(app: App, session: Session) -> None:
    app.enqueue(session)
    session.rollback()
    assert app.wakeups == 0


def test_two_outboxes_on_one_session_each_get_theirs(app: App, session: Session) -> None:
    other = App()
    app.enqueue(session)
    other.enqueue(session)
    session.commit()
    assert (app.wakeups, other.wakeups) == (1, 1)


def test_a_retry_gives_a_wakeup_too(app: App, session: Session) -> None:
    receipt = app.outbox.enqueue(session, Message(text="x"), to=["ada@example.com"])
    app.outbox.cancel(session, receipt)
    session.commit()
    before = app.wakeups
    assert app.outbox.retry(session, receipt) == ("ada@example.com",)
    session.commit()
    assert app.wakeups == before + 1
