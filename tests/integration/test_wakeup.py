"""A hint after the commit that counts, and after no other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from postroom import Message, Outbox


class Bell:
    """An outbox, and how often it has given a hint."""

    def __init__(self) -> None:
        self.rung = 0
        self.outbox = Outbox(sender="shop@example.com")
        self.outbox.add_wakeup(self._ring)

    def _ring(self) -> None:
        self.rung += 1

    def enqueue(self, session: Session) -> None:
        self.outbox.enqueue(session, Message(text="x"), to=["ada@example.com"])


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


def test_one_commit_gives_one_hint_however_much_was_enqueued(bell: Bell, session: Session) -> None:
    bell.enqueue(session)
    bell.enqueue(session)
    assert bell.rung == 0
    session.commit()
    session.commit()
    assert bell.rung == 1


def test_a_savepoint_gives_none_before_the_transaction_around_it(
    bell: Bell, session: Session
) -> None:
    with session.begin_nested():
        bell.enqueue(session)
        with session.begin_nested():
            bell.enqueue(session)
    assert bell.rung == 0
    session.commit()
    assert bell.rung == 1


def test_a_rollback_gives_none(bell: Bell, session: Session) -> None:
    bell.enqueue(session)
    session.rollback()
    assert bell.rung == 0


def test_two_outboxes_on_one_session_each_get_theirs(bell: Bell, session: Session) -> None:
    other = Bell()
    bell.enqueue(session)
    other.enqueue(session)
    session.commit()
    assert (bell.rung, other.rung) == (1, 1)


def test_what_is_sent_again_gives_a_hint_too(bell: Bell, session: Session) -> None:
    receipt = bell.outbox.enqueue(session, Message(text="x"), to=["ada@example.com"])
    bell.outbox.cancel(session, receipt)
    session.commit()
    before = bell.rung
    assert bell.outbox.retry(session, receipt) == ("ada@example.com",)
    session.commit()
    assert bell.rung == before + 1
