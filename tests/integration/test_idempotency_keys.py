"""One key stands for one message, whatever happens at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from postroom.errors import IdempotencyConflict, MessageError
from postroom.message.attachment import Attachment
from postroom.message.message import Message, Recipient
from postroom.message.templates import Template
from postroom.states import Lane
from postroom.storage.enqueue_request import Receipt
from postroom.storage.tables import Tables
from tests.integration.rival import Rival
from tests.integration.shop import User, message, migrate, place


def post(engine: Engine, mail: Message | None = None, **fields: Any) -> Receipt:
    with Session(engine) as session, session.begin():
        return place(
            session, mail, **({"to": ["ann@example.com"], "idempotency_key": "k"} | fields)
        )


def row_counts(engine: Engine, tables: Tables) -> list[int]:
    with engine.connect() as connection:
        messages, recipients, waiting = (
            connection.scalar(select(func.count()).select_from(table)) or 0
            for table in (tables.message, tables.recipient, tables.queue)
        )
    return [messages, recipients, waiting]


def test_the_same_order_again_returns_the_message_that_stands(
    engine: Engine, tables: Tables
) -> None:
    first = post(engine)
    again = post(engine)
    assert (first.is_new, again.is_new) == (True, False)
    assert (again.message_id, again.idempotency_key) == (first.message_id, "k")
    assert again.recipients == first.recipients
    assert row_counts(engine, tables) == [1, 1, 1]


def test_within_one_transaction_too(engine: Engine, tables: Tables) -> None:
    with Session(engine) as session, session.begin():
        receipts = [place(session, to=["ann@example.com"], idempotency_key="k") for _ in range(2)]
    assert [one.is_new for one in receipts] == [True, False]
    assert row_counts(engine, tables) == [1, 1, 1]


def test_without_a_key_everything_is_new(engine: Engine, tables: Tables) -> None:
    assert post(engine, idempotency_key=None).is_new
    assert post(engine, idempotency_key=None).is_new
    assert row_counts(engine, tables) == [2, 2, 2]


def test_when_and_how_fast_it_goes_is_no_other_content(engine: Engine, tables: Tables) -> None:
    post(engine)
    later = message(
        lane=Lane.BULK, tags=["a"], relay="b", scheduled_at=datetime.now(UTC) + timedelta(days=1)
    )
    assert not post(engine, later).is_new
    assert row_counts(engine, tables) == [1, 1, 1]


def test_templates_are_compared_by_what_they_render_to(engine: Engine) -> None:
    def order(number: int) -> Message:
        return message(text=Template.from_string("Order {{ number }}", number=number))

    post(engine, order(7))
    assert not post(engine, order(7)).is_new
    assert not post(engine, message(text="Order 7")).is_new
    with pytest.raises(IdempotencyConflict):
        post(engine, order(8))


def test_attachments_are_compared_by_their_bytes(engine: Engine) -> None:
    def order(*cells: str) -> Message:
        attachments = [
            Attachment.csv("a.csv", [cells]),
            Attachment.excel("a.xlsx", [{"cell": cell} for cell in cells]),
        ]
        return message(attachments=attachments)

    post(engine, order("a", "b"))
    assert not post(engine, order("a", "b")).is_new
    with pytest.raises(IdempotencyConflict):
        post(engine, order("a", "c"))


@pytest.mark.parametrize(
    "other",
    [
        {"mail": message(subject="Other")},
        {"to": ["bob@example.com"]},
        {"to": ["ann@example.com", "bob@example.com"]},
        {"to": [Recipient("ann@example.com", {"name": "Ann"})]},
        {"bcc": ["bob@example.com"]},
        {"mail": message(shared=True)},
    ],
)
def test_other_content_under_the_same_key_is_refused_and_named(
    engine: Engine, tables: Tables, other: dict[str, Any]
) -> None:
    first = post(engine)
    with pytest.raises(IdempotencyConflict, match=rf"'k'.*message {first.message_id}\b"):
        post(engine, **other)
    assert row_counts(engine, tables) == [1, 1, 1]


def test_a_conflict_leaves_the_caller_s_transaction_whole(engine: Engine, tables: Tables) -> None:
    post(engine)
    with Session(engine) as session, session.begin():
        place(session, to=["before@example.com"])
        with pytest.raises(IdempotencyConflict):
            place(session, to=["other@example.com"], idempotency_key="k")
        place(session, to=["after@example.com"])
    assert row_counts(engine, tables) == [3, 3, 3]


def test_a_user_who_moved_is_still_the_same_recipient(engine: Engine) -> None:
    migrate(engine, User(id=7, email="old@example.com"))
    first = post(engine, to=(), user_ids=[7])
    with Session(engine) as session, session.begin():
        session.get_one(User, 7).email = "new@example.com"
    again = post(engine, to=(), user_ids=[7])
    assert not again.is_new
    assert again.recipients == first.recipients


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", 7])
def test_what_is_no_key_is_refused(engine: Engine, key: Any) -> None:
    with pytest.raises(MessageError, match="the key"):
        post(engine, idempotency_key=key)


def test_two_transactions_with_one_key_give_one_message(engine: Engine, tables: Tables) -> None:
    rival = Rival(engine, lambda: post(engine))
    with Session(engine) as session, session.begin():
        first = place(session, to=["ann@example.com"], idempotency_key="k")
        rival.start()
    second = rival.finish()
    assert (first.is_new, second.is_new) == (True, False)
    assert second.message_id == first.message_id
    assert row_counts(engine, tables) == [1, 1, 1]


def test_two_transactions_with_one_key_and_other_content_conflict(
    engine: Engine, tables: Tables
) -> None:
    rival = Rival(engine, lambda: post(engine, to=["bob@example.com"]))
    with Session(engine) as session, session.begin():
        place(session, to=["ann@example.com"], idempotency_key="k")
        rival.start()
    with pytest.raises(IdempotencyConflict):
        rival.finish()
    assert row_counts(engine, tables) == [1, 1, 1]


def test_a_key_that_was_rolled_back_is_free(engine: Engine, tables: Tables) -> None:
    rival = Rival(engine, lambda: post(engine, to=["bob@example.com"]))
    with Session(engine) as session:
        place(session, to=["ann@example.com"], idempotency_key="k")
        rival.start()
        session.rollback()
    assert rival.finish().is_new
    assert row_counts(engine, tables) == [1, 1, 1]


def test_many_transactions_and_few_keys_give_one_message_a_key(
    engine: Engine, tables: Tables
) -> None:
    keys = [f"order-{number % 5}" for number in range(40)]
    with ThreadPoolExecutor(4) as pool:
        receipts = list(pool.map(lambda key: post(engine, idempotency_key=key), keys))
    assert sum(one.is_new for one in receipts) == 5
    assert len({(one.idempotency_key, one.message_id) for one in receipts}) == 5
    assert row_counts(engine, tables) == [5, 5, 5]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_strict_transaction_is_told_to_try_again(
    engine: Engine, tables: Tables, level: Any
) -> None:
    """It cannot see the message that stands since; after its retry it can."""
    strict = engine.execution_options(isolation_level=level)
    with Session(strict) as session:
        assert session.scalar(select(func.count()).select_from(tables.message)) == 0
        first = post(engine)
        with pytest.raises(DBAPIError) as caught:
            place(session, to=["ann@example.com"], idempotency_key="k")
        assert getattr(caught.value.orig, "sqlstate", None) == "40001"
        session.rollback()
        again = place(session, to=["ann@example.com"], idempotency_key="k")
    assert (again.message_id, again.is_new) == (first.message_id, False)
