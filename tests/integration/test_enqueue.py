"""Enqueueing is part of the caller's transaction: all of it happens, or nothing does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from postroom.errors import (
    ConfigError,
    InvalidAddress,
    MessageError,
    RecipientError,
    TemplateError,
)
from postroom.message.address import Address
from postroom.message.attachment import Attachment
from postroom.message.envelope import DsnOptions
from postroom.message.message import Recipient
from postroom.message.templates import Template
from postroom.states import Lane, OnDoubt
from postroom.storage import message_store
from postroom.storage.engine import clock_sql, write_transaction
from postroom.storage.enqueue_request import OutboxDefaults
from postroom.storage.tables import Tables
from tests.integration.shop import User, addressed, message, migrate, place, rows


@pytest.fixture
def users(engine: Engine) -> None:
    ann = User(id=1, email="Ann.Lee@Example.com", name="Ann Lee", username="ann")
    bob = User(id=2, email="bob@example.com", username="bob")
    migrate(engine, ann, bob, User(id=3), User(id=4, email=""), User(id=5, email="no address"))


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(_: Any, cursor: Any, statement: str, *rest: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


@contextmanager
def sizes(engine: Engine) -> Iterator[list[int]]:
    """Collect how long the longest value of each statement is."""
    seen: list[int] = []

    def note(_: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        values = parameters.values() if isinstance(parameters, dict) else parameters
        seen.append(max((len(one) for one in values if isinstance(one, str)), default=0))

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def enqueued(engine: Engine, tables: Tables) -> int:
    with engine.connect() as connection:
        found = [
            connection.scalar(select(func.count()).select_from(table)) or 0
            for table in (tables.message, tables.recipient, tables.queue)
        ]
    assert len(set(found)) == 1, found  # one recipient each, in these tests
    return found[0]


# -- the caller's transaction ---------------------------------------------------------------------


def test_a_commit_keeps_it_and_a_rollback_undoes_it(engine: Engine, tables: Tables) -> None:
    with Session(engine) as session:
        place(session, to=["ann@example.com"])
        session.rollback()
        assert enqueued(engine, tables) == 0
        place(session, to=["ann@example.com"])
        session.commit()
    assert enqueued(engine, tables) == 1


def test_nothing_is_committed_before_the_caller_does(engine: Engine, tables: Tables) -> None:
    with Session(engine) as session:
        place(session, to=["ann@example.com"])
        assert session.in_transaction()
        assert enqueued(engine, tables) == 0


def test_a_savepoint_that_is_rolled_back_takes_its_mail_along(
    engine: Engine, tables: Tables
) -> None:
    with Session(engine) as session, session.begin():
        place(session, to=["kept@example.com"])
        with session.begin_nested() as savepoint:
            place(session, to=["gone@example.com"])
            savepoint.rollback()
        with session.begin_nested():
            place(session, to=["kept-too@example.com"])
    with engine.connect() as connection:
        addresses = [address for _, address in addressed(connection, tables)]
    assert addresses == ["kept@example.com", "kept-too@example.com"]


def test_a_savepoint_that_comes_first_commits_nothing_by_itself(
    engine: Engine, tables: Tables
) -> None:
    with Session(engine) as session:
        with session.begin_nested():
            place(session, to=["gone@example.com"])
        session.rollback()
    assert enqueued(engine, tables) == 0


def test_a_scoped_session_will_do(engine: Engine, tables: Tables) -> None:
    session = scoped_session(sessionmaker(engine))
    place(session, to=["ann@example.com"])
    session.commit()
    session.remove()
    assert enqueued(engine, tables) == 1


def test_a_connection_will_do(engine: Engine, tables: Tables) -> None:
    with engine.begin() as connection:
        place(connection, to=["ann@example.com"])
    with write_transaction(engine) as connection:
        place(connection, to=["ann@example.com"])
    assert enqueued(engine, tables) == 2


@pytest.mark.parametrize(
    ("database_url", "driver"),
    [
        ("sqlite", "sqlite+aiosqlite"),
        ("postgresql", "postgresql+asyncpg"),
        ("postgresql", "postgresql+psycopg"),
    ],
    indirect=["database_url"],
)
def test_an_asynchronous_session_will_do(
    engine: Engine, driver: str, tables: Tables, users: None
) -> None:
    async def work() -> None:
        asynchronous = create_async_engine(engine.url.set(drivername=driver))
        said = message(attachments=[Attachment.from_bytes("a.txt", b"text")])
        recipient = Recipient("eve@example.com", {"name": "Eve"})
        async with AsyncSession(asynchronous) as session, session.begin():
            await session.run_sync(place, said, to=[recipient], user_ids=[1], idempotency_key="k")
        async with AsyncSession(asynchronous) as session, session.begin():
            again = await session.run_sync(
                place, said, to=[recipient], user_ids=[1], idempotency_key="k"
            )
            assert not again.is_new
            await session.run_sync(place, to=["gone@example.com"])
            await session.rollback()
        await asynchronous.dispose()

    asyncio.run(work())
    with engine.connect() as connection:
        assert rows(connection, "address variables", tables.recipient) == [
            ("eve@example.com", {"name": "Eve"}),
            ("Ann.Lee@Example.com", None),
        ]


def test_a_refused_order_writes_nothing(engine: Engine, tables: Tables, users: None) -> None:
    """Whatever is wrong, the caller's transaction goes on without it."""
    wrong: list[dict[str, Any]] = [
        {"to": ["no address"]},
        {"to": []},
        {"user_ids": [99]},
        {"said": message(sender=None), "to": ["a@example.com"]},
        {"said": message(text=Template("missing.txt")), "to": ["a@example.com"]},
        {"said": message(attachments=[Attachment.from_path("/missing")]), "to": ["a@b.example"]},
        {"idempotency_key": "", "to": ["a@example.com"]},
    ]
    with Session(engine) as session, session.begin():
        for order in wrong:
            with pytest.raises(MessageError):
                place(session, **order)
        place(session, to=["ann@example.com"])
    assert enqueued(engine, tables) == 1


@pytest.mark.parametrize("most", [4])
def test_a_mail_without_attachments_costs_four_statements_at_most(
    engine: Engine, users: None, most: int
) -> None:
    said = message(text="text", html="<p>text</p>", tags=["order"])
    with Session(engine) as session, session.begin():
        for key in (None, "new", "new"):
            with statements(engine) as seen:
                place(session, said, to=["a@example.com"] * 3, user_ids=[1, 2], idempotency_key=key)
            assert len(seen) <= most, seen


def test_a_long_list_costs_no_more_statements(engine: Engine, tables: Tables) -> None:
    people = [f"user{number}@example.com" for number in range(20_000)]
    with statements(engine) as seen, Session(engine) as session, session.begin():
        receipt = place(session, to=people)
    assert len(receipt.recipients) == 20_000
    assert len([one for one in seen if one.startswith(("INSERT", "WITH"))]) <= 3
    with engine.connect() as connection:
        assert [address for _, address in addressed(connection, tables)] == people


# -- recipients -----------------------------------------------------------------------------------


def test_more_than_one_statement_should_carry_goes_in_portions(
    engine: Engine, tables: Tables, full: bool
) -> None:
    """30 KB of variables each: of 10,000 recipients 300 MB, more than a value may be long."""
    count = 10_000 if full else 600
    text = "x" * 30_000
    people = [
        Recipient(f"r{number:05}@example.com", {"text": text, "number": number})
        for number in range(count)
    ]
    with sizes(engine) as seen, Session(engine) as session, session.begin():
        said = message(text=Template.from_string("{{ text }}"))
        receipt = place(session, said, to=people)
    assert max(seen) < 9_000_000
    assert receipt.count == count
    recipient = tables.recipient.c
    number = recipient.variables["number"].as_integer()
    with engine.connect() as connection:
        stored = connection.execute(
            select(recipient.address, number, tables.queue.c.recipient_id)
            .join(tables.queue, tables.queue.c.recipient_id == recipient.id)
            .order_by(recipient.id)
        )
        assert [row[:2] for row in stored] == [
            (one.address.addr_spec, place) for place, one in enumerate(people)
        ]


@pytest.mark.parametrize(
    "one",
    [
        "Ann <ann@example.com>",
        Address("Ann <ann@example.com>"),
        Recipient("Ann <ann@example.com>", {"points": 7}),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_single_recipient_needs_no_list(engine: Engine, tables: Tables, one: Any) -> None:
    with Session(engine) as session, session.begin():
        receipt = place(session, to=one)
    assert receipt.recipients == (Address("Ann <ann@example.com>"),)
    with engine.connect() as connection:
        assert addressed(connection, tables) == [("to", "ann@example.com")]


def test_a_single_copy_needs_no_list(engine: Engine, tables: Tables) -> None:
    with Session(engine) as session, session.begin():
        place(session, to="a@example.com", cc="b@example.com", bcc=Address("c@example.com"))
    with engine.connect() as connection:
        assert [kind for kind, _ in addressed(connection, tables)] == ["to", "cc", "bcc"]


@pytest.mark.parametrize("kind", ["to", "cc", "bcc"])
@pytest.mark.parametrize("wrong", [7, None, b"ann@example.com"], ids=repr)
def test_who_is_no_recipient_is_refused(session: Session, kind: str, wrong: Any) -> None:
    people = {"to": "ann@example.com"} | {kind: wrong}
    said = f"`{kind}` must be an address or a list of addresses, not {type(wrong).__name__}"
    with pytest.raises(RecipientError, match=said):
        place(session, **people)


def test_everyone_gets_one_copy_however_often_they_are_named(
    engine: Engine, tables: Tables, users: None
) -> None:
    with Session(engine) as session, session.begin():
        receipt = place(
            session,
            to=["ann.lee@example.com", Address("Carl <carl@example.com>")],
            user_ids=[2, 1, 2],
            cc=["CARL@example.com", "dora@example.com"],
            bcc=["dora@EXAMPLE.com", Recipient("eve@bücher.example"), "eve@xn--bcher-kva.example"],
        )
    with engine.connect() as connection:
        assert rows(connection, "type address address_key name user_ref", tables.recipient) == [
            ("to", "ann.lee@example.com", "ann.lee@example.com", "", None),
            ("to", "carl@example.com", "carl@example.com", "Carl", None),
            ("to", "bob@example.com", "bob@example.com", "", "2"),
            ("cc", "dora@example.com", "dora@example.com", "", None),
            ("bcc", "eve@bücher.example", "eve@xn--bcher-kva.example", "", None),
        ]
    assert [one.addr_spec for one in receipt.recipients] == [
        "ann.lee@example.com",
        "carl@example.com",
        "bob@example.com",
        "dora@example.com",
        "eve@bücher.example",
    ]


def test_a_user_is_written_to_by_name_where_there_is_one(
    engine: Engine, tables: Tables, users: None
) -> None:
    with Session(engine) as session, session.begin():
        place(session, user_ids=["1", 2])  # Flask-Login hands out texts
    with engine.connect() as connection:
        assert rows(connection, "address name user_ref", tables.recipient) == [
            ("Ann.Lee@Example.com", "Ann Lee", "1"),
            ("bob@example.com", "", "2"),
        ]


def test_a_user_of_the_same_transaction_is_found(
    engine: Engine, tables: Tables, users: None
) -> None:
    with Session(engine) as session, session.begin():
        session.add(User(id=7, email="new@example.com"))
        place(session, user_ids=[7])
    assert enqueued(engine, tables) == 1


def test_users_without_an_address_are_all_named_at_once(engine: Engine, users: None) -> None:
    with Session(engine) as session, pytest.raises(RecipientError) as caught:
        place(session, user_ids=[1, 99, 3, 4, 5, 100])
    assert str(caught.value).splitlines() == [
        "expected user 99 to exist, got: no such user",
        "expected user 3 to have an address, got: none",
        "expected user 4 to have an address, got: none",
        "user 5: expected an address to be like name@domain.example, got: 'no address' "
        "(there is no @)",
        "expected user 100 to exist, got: no such user",
    ]


@pytest.mark.parametrize("wrong", ["seven", True, 1.5, None])
def test_what_is_no_user_id_is_refused(engine: Engine, users: None, wrong: Any) -> None:
    with Session(engine) as session, pytest.raises(RecipientError, match="to be ids"):
        place(session, user_ids=[wrong])


def test_users_need_to_be_known(engine: Engine) -> None:
    with Session(engine) as session, pytest.raises(ConfigError, match=r"Outbox\(users=User\)"):
        place(session, user_ids=[1], terms=OutboxDefaults())


@pytest.mark.parametrize("nobody", [{}, {"to": []}, {"user_ids": ()}, {"bcc": iter(())}])
def test_nobody_to_write_to_is_an_error(engine: Engine, nobody: dict[str, Any]) -> None:
    with Session(engine) as session, pytest.raises(RecipientError, match="nobody to write to"):
        place(session, **nobody)


def test_ten_thousand_addresses_of_which_three_are_wrong_name_the_three(engine: Engine) -> None:
    people = [f"user{number}@example.com" for number in range(10_000)]
    people[7], people[5_000] = "seven", "five thousand@example.com"
    with Session(engine) as session, pytest.raises(InvalidAddress) as caught:
        place(session, to=people, cc=["a@b@example.com"])
    for wrong in ("'seven'", "'five thousand@example.com'", "'a@b@example.com'"):
        assert wrong in str(caught.value)


@pytest.mark.parametrize("wrong", [7, None, ["a@example.com"], b"a@example.com"], ids=repr)
def test_what_is_no_recipient_in_a_list_is_refused(engine: Engine, wrong: Any) -> None:
    with Session(engine) as session, pytest.raises(RecipientError, match="a recipient must be"):
        place(session, to=[wrong])


def test_variables_are_kept_for_those_who_brought_them(engine: Engine, tables: Tables) -> None:
    ann = Recipient(
        "ann@example.com", {"name": "Änn 🎈", "since": datetime(2025, 3, 1, tzinfo=UTC)}
    )
    said = message(subject=Template.from_string("{{ name }} {{ since.year }}"))
    with Session(engine) as session, session.begin():
        receipt = place(session, said, to=[ann, Recipient("bob@example.com", {}), "c@example.com"])
    with engine.connect() as connection:
        ((first,), (second,), (third,)) = rows(connection, "variables", tables.recipient)
        draft = message_store.load_messages(connection, tables, [receipt.message_id], no_blob)[
            1
        ].draft
    assert (second, third) == ({}, None)
    assert draft.rendered(first).subject == "Änn 🎈 2025"


def test_variables_that_cannot_be_stored_are_refused(engine: Engine) -> None:
    with Session(engine) as session, pytest.raises(TemplateError, match=r"ann@example\.com"):
        place(session, to=[Recipient("ann@example.com", {"user": object()})])


@pytest.mark.parametrize("how", [{"said": message(shared=True)}, {"cc": ["c@example.com"]}])
def test_a_shared_mail_cannot_differ_from_one_to_another(
    engine: Engine, how: dict[str, Any]
) -> None:
    ann = Recipient("ann@example.com", {"name": "Ann"})
    with Session(engine) as session, pytest.raises(MessageError, match="the same for everyone"):
        place(session, to=[ann], **how)


# -- what a worker reads --------------------------------------------------------------------------


def no_blob(sha256: str) -> Iterator[bytes]:
    raise AssertionError(f"nothing to read, got: {sha256}")


def test_a_message_reads_back_as_it_was_meant(engine: Engine, tables: Tables) -> None:
    now = datetime(2025, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
    said = message(
        sender='"Shöp, the" <shop@bücher.example>',
        subject="Grüße 🎈",
        text="Text",
        html="<p>HTML</p>",
        headers=[("X-A", "1"), ("X-A", "2")],
        reply_to=["Help <help@example.com>"],
        reply_to_message="q@example.com",
        envelope_sender="bounces@example.com",
        lane="bulk",
        relay="ses",
        on_doubt="hold",
        expires_at=now + timedelta(days=1),
        retry_delays_s=[1.5, 60],
        dsn=DsnOptions(notify=("FAILURE", "DELAY"), ret="HDRS", envid="A-1001"),
    )
    terms = OutboxDefaults(now=lambda: now, new_message_id_seed=lambda: "0" * 32)
    with Session(engine) as session, session.begin():
        receipt = place(session, said, to=["ann@example.com"], terms=terms)
    with engine.connect() as connection:
        found = message_store.load_messages(
            connection, tables, [receipt.message_id, 10**9], no_blob
        )
    stored = found[receipt.message_id]
    draft = stored.draft
    assert list(found) == [receipt.message_id]
    assert (draft.message_id_seed, draft.date) == ("0" * 32, now)
    assert draft.sender == Address('"Shöp, the" <shop@bücher.example>')
    assert (draft.subject, draft.text, draft.html) == ("Grüße 🎈", "Text", "<p>HTML</p>")
    assert draft.headers == said.extra_headers
    assert draft.reply_to == (Address("Help <help@example.com>"),)
    assert (draft.to, draft.cc, draft.shared, draft.attachments) == ((), (), False, ())
    assert stored.envelope_sender == "bounces@example.com"
    assert (stored.lane, stored.relay, stored.on_doubt) == (Lane.BULK, "ses", OnDoubt.HOLD)
    assert (stored.expires_at, stored.retry_delays_s) == (now + timedelta(days=1), (1.5, 60.0))
    assert stored.dsn == said.dsn


@pytest.mark.parametrize(
    ("given", "expected"), [(None, "shop@xn--bcher-kva.example"), ("", ""), ("b@c.de", "b@c.de")]
)
def test_bounces_go_to_the_sender_unless_said_otherwise(
    engine: Engine, tables: Tables, given: str | None, expected: str
) -> None:
    said = message(sender="shop@bücher.example", envelope_sender=given)
    with Session(engine) as session, session.begin():
        receipt = place(session, said, to=["ann@example.com"])
        stored = message_store.load_messages(
            session.connection(), tables, [receipt.message_id], no_blob
        )
    assert stored[receipt.message_id].envelope_sender == expected


def test_a_shared_mail_shows_to_and_cc_in_order_and_no_bcc(engine: Engine, tables: Tables) -> None:
    with Session(engine) as session, session.begin():
        receipt = place(
            session,
            to=["z@example.com", "Ann <a@example.com>"],
            cc=["c@example.com"],
            bcc=["b@example.com"],
        )
        other = place(session, to=["other@example.com"])
        ids = [receipt.message_id, other.message_id]
        stored = message_store.load_messages(session.connection(), tables, ids, no_blob)
    draft = stored[receipt.message_id].draft
    assert stored[receipt.message_id].shared
    assert [str(one) for one in draft.to] == ["z@example.com", "Ann <a@example.com>"]
    assert [str(one) for one in draft.cc] == ["c@example.com"]
    assert not stored[other.message_id].shared


def test_what_is_not_there_costs_no_statement(engine: Engine, tables: Tables) -> None:
    with Session(engine) as session, session.begin():
        ids = [place(session, to=["a@example.com"]).message_id for _ in range(3)]
        with statements(engine) as seen:
            assert (
                list(message_store.load_messages(session.connection(), tables, ids, no_blob)) == ids
            )
    assert len(seen) == 1


# -- schedule -------------------------------------------------------------------------------------


def due_in_s(engine: Engine, tables: Tables) -> float:
    with engine.connect() as connection:
        due_at, now = connection.execute(
            select(tables.queue.c.due_at, clock_sql(engine.dialect))
        ).one()
    return float(due_at - now)


def test_it_is_due_at_once(engine: Engine, tables: Tables) -> None:
    with Session(engine) as session, session.begin():
        place(session, to=["ann@example.com"])
    assert -30 < due_in_s(engine, tables) <= 0


def test_it_waits_until_not_before_by_the_database_s_clock(engine: Engine, tables: Tables) -> None:
    then = datetime.now(UTC) + timedelta(hours=2)
    with Session(engine) as session, session.begin():
        place(session, message(scheduled_at=then), to=["ann@example.com"])
    assert 7100 < due_in_s(engine, tables) <= 7201


def test_a_moment_long_past_is_now(engine: Engine, tables: Tables) -> None:
    then = datetime(2001, 1, 1, tzinfo=UTC)
    with Session(engine) as session, session.begin():
        place(session, message(scheduled_at=then), to=["ann@example.com"])
    assert -30 < due_in_s(engine, tables) <= 0


@pytest.mark.parametrize("lane", Lane)
def test_it_waits_in_its_lane(engine: Engine, tables: Tables, lane: Lane) -> None:
    with Session(engine) as session, session.begin():
        place(session, message(lane=lane, tags=["a", "b"]), to=["ann@example.com"])
    with engine.connect() as connection:
        assert rows(connection, "lane tags", tables.message) == [(lane.value, ["a", "b"])]
        assert rows(
            connection, "lane lease_token claim_count try_count send_intent", tables.queue
        ) == [(lane.rank, None, 0, 0, False)]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("notify", [True, False])
def test_workers_are_woken_once_a_transaction_when_it_commits(engine: Engine, notify: bool) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as listener:
        listener.exec_driver_sql("LISTEN postroom")
        heard = listener.connection.driver_connection.notifies  # type: ignore[union-attr]
        with Session(engine) as session, session.begin():
            for _ in range(3):
                place(session, to=["ann@example.com"], terms=OutboxDefaults(notify=notify))
            assert list(heard(timeout=0)) == []
        assert len(list(heard(timeout=0.5, stop_after=1))) == (1 if notify else 0)
        assert list(heard(timeout=0)) == []
