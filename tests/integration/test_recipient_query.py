"""A query as recipients: what it finds is written by the database, and nothing wrong ever is."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    URL,
    Column,
    Engine,
    LargeBinary,
    Numeric,
    String,
    create_engine,
    delete,
    event,
    func,
    insert,
    literal,
    null,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    ORMExecuteState,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
    with_loader_criteria,
)
from sqlalchemy.types import JSON, DateTime, Interval, PickleType, TypeDecorator

from postroom.errors import IdempotencyConflict, InvalidAddress, MessageError, RecipientError
from postroom.message.address import Address
from postroom.message.message import Recipient
from postroom.message.templates import Template, unpack_json
from postroom.storage import bulk_insert, message_store, schema
from postroom.storage.tables import Tables
from tests.integration.shop import User, message, migrate, place, rows


class Base(DeclarativeBase):
    """Models with columns of every kind."""


class Shouted(TypeDecorator[str]):
    """Is shouted in Python, and stored as it was said."""

    impl = String
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else value.upper()


class Lowered(TypeDecorator[str]):
    """Is stored in lower case, and the same in Python."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        return None if value is None else value.lower()


class Customer(Base):
    __tablename__ = "customer"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Lowered)
    first: Mapped[str | None] = mapped_column("first_name")
    points: Mapped[int | None]
    rate: Mapped[float | None]
    owes: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    share: Mapped[Decimal | None] = mapped_column(Numeric)
    since: Mapped[datetime | None]
    last_seen_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    born: Mapped[date | None]
    wakes: Mapped[time | None]
    token: Mapped[UUID | None]
    vip: Mapped[bool | None]
    extra: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    shout: Mapped[str | None] = mapped_column(Shouted)
    picture: Mapped[bytes | None] = mapped_column(LargeBinary)


FACTS: dict[str, Any] = {
    "first": 'Änn 🎈 "the" O\'Hara',
    "points": 2**30,
    "rate": 0.5,
    "owes": Decimal("10.50"),
    "share": Decimal("0.25"),
    "since": datetime(2025, 3, 1, 12, 30, 0, 500),  # noqa: DTZ001 - as most are stored
    "born": date(2000, 2, 29),
    "wakes": time(6, 30),
    "token": UUID(int=7),
    "vip": False,
    "extra": {"a": [1, None, "ü"]},
}


@pytest.fixture
def users(engine: Engine) -> None:
    ann = User(id=1, email="Ann.Lee@Example.com", name="Ann Lee", username="ann")
    bob = User(id=2, email="bob@example.com", username="bob")
    migrate(engine, ann, bob, User(id=3, email="eve@bücher.example", name=" Eve, of Ex "))


def stored(session: Session, tables: Tables, columns: str = "address address_key name") -> Any:
    return sorted(rows(session, columns, tables.recipient))


def counted(engine: Engine, tables: Tables) -> list[int]:
    with engine.connect() as connection:
        return [
            connection.scalar(select(func.count()).select_from(table)) or 0
            for table in (tables.message, tables.recipient, tables.queue)
        ]


def fill(session: Session, emails: list[str], **columns: Any) -> Any:
    """Have users with ``emails`` and none else; return the query for them."""
    session.execute(delete(User))
    session.execute(insert(User), [{"email": email} | columns for email in emails])
    return select(User.email)


# -- whom it finds ---------------------------------------------------------------------------------


def test_everyone_whom_the_query_finds_gets_a_copy(
    session: Session, tables: Tables, users: None
) -> None:
    receipt = place(session, to=select(User.email, User.name).where(User.id < 3))
    assert stored(session, tables) == [
        ("Ann.Lee@Example.com", "ann.lee@example.com", "Ann Lee"),
        ("bob@example.com", "bob@example.com", ""),
    ]
    assert (receipt.is_new, receipt.count, receipt.recipients) == (True, 2, ())
    assert {row[1:] for row in stored(session, tables, "id type state variables user_ref")} == {
        ("to", "queued", None, None)
    }


def test_they_are_due_as_others_are(engine: Engine, tables: Tables, users: None) -> None:
    then = datetime(2100, 1, 1, tzinfo=UTC)
    with Session(engine) as session, session.begin():
        place(session, message(lane="bulk", scheduled_at=then), to=select(User.email))
    with engine.connect() as connection:
        queued = rows(connection, "lane due_at lease_token", tables.queue)
    assert queued == [(message(lane="bulk").lane.rank, then.timestamp(), None)] * 3


def test_what_is_no_plain_address_is_read_as_anywhere(
    session: Session, tables: Tables, users: None
) -> None:
    odd = {
        "Ünï.Cödé@Example.com": ("Ünï.Cödé@Example.com", "ünï.cödé@example.com", ""),
        " spaced@example.com ": ("spaced@example.com", "spaced@example.com", ""),
        "Ann Lee <ann@example.com>": ("ann@example.com", "ann@example.com", "Ann Lee"),
        "O'Hara@example.com": ("O'Hara@example.com", "o'hara@example.com", ""),
        "a@BÜCHER.example": ("a@BÜCHER.example", "a@xn--bcher-kva.example", ""),
        "b@xn--bcher-kva.example": ("b@xn--bcher-kva.example", "b@xn--bcher-kva.example", ""),
        f"{'x' * 64}@example.com": (f"{'x' * 64}@example.com", f"{'x' * 64}@example.com", ""),
    }
    assert place(session, to=fill(session, list(odd))).count == len(odd)
    assert stored(session, tables) == sorted(odd.values())


def test_a_name_of_its_own_wins_over_that_in_the_address(
    session: Session, tables: Tables, users: None
) -> None:
    query = fill(session, ["Ann Lee <ann@example.com>", "ü@example.com"], name=" Änn, of Ex ")
    place(session, to=query.add_columns(User.name))
    assert {name for _, _, name in stored(session, tables)} == {"Änn, of Ex"}


def test_an_address_found_twice_gets_one_copy(
    session: Session, tables: Tables, users: None
) -> None:
    query = fill(
        session,
        [
            *("ann@example.com", "ANN@example.com", "Ann <ann@EXAMPLE.com>"),
            *("eve@bücher.example", "Eve@xn--bcher-kva.example", "eve@BÜCHER.example"),
        ],
    )
    assert place(session, to=query).count == 2
    keys = sorted(key for _, key, _ in stored(session, tables))
    assert keys == ["ann@example.com", "eve@xn--bcher-kva.example"]


def test_queries_and_people_may_be_given_together(
    session: Session, tables: Tables, users: None
) -> None:
    receipt = place(
        session,
        to=[
            select(User.email).where(User.id == 1),
            "carl@example.com",
            select(User.email).where(User.id < 3),
            "ANN.lee@example.com",
        ],
        user_ids=[1, 3],
    )
    assert (receipt.count, receipt.recipients) == (4, ())
    assert stored(session, tables, "address_key type user_ref") == [
        ("ann.lee@example.com", "to", None),
        ("bob@example.com", "to", None),
        ("carl@example.com", "to", None),
        ("eve@xn--bcher-kva.example", "to", "3"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [{"cc": ["c@example.com"]}, {"bcc": ["c@example.com"]}, {"said": message(shared=True)}],
)
def test_those_of_a_query_do_not_see_each_other(
    session: Session, users: None, wrong: dict[str, Any]
) -> None:
    with pytest.raises(MessageError, match="a shared message"):
        place(session, to=select(User.email), **wrong)


@pytest.mark.parametrize("kind", ["cc", "bcc"])
def test_a_query_is_only_for_to(session: Session, users: None, kind: str) -> None:
    with pytest.raises(MessageError, match=f"`{kind}` must be .* not a query"):
        place(session, to=["a@example.com"], **{kind: select(User.email)})


def test_a_query_that_finds_nobody_is_an_error(engine: Engine, tables: Tables, users: None) -> None:
    with Session(engine) as session:
        with pytest.raises(RecipientError, match="the query given as to=… finds nobody"):
            place(session, to=select(User.email).where(User.id > 99))
        session.commit()
    assert counted(engine, tables) == [0, 0, 0]


def test_a_query_that_finds_nobody_is_none_where_others_are_named(
    session: Session, users: None
) -> None:
    nobody = select(User.email).where(User.id > 99)
    assert place(session, to=[nobody, "ann@example.com"]).count == 1


# -- queries of every kind ------------------------------------------------------------------------


def queries() -> list[Any]:
    table = User.__table__.c
    named = select(User.email.label("mail"), User.id).where(User.id < 3).cte("named")
    return [
        select(table.email).where(table.id < 3),
        union_all(select(User.email).where(User.id == 1), select(User.email).where(User.id == 2)),
        select(named.c.mail).where(named.c.id.in_([1, 2])),
        select(User.email).order_by(User.id).limit(2),
        text("SELECT email FROM shop_user WHERE id < 3").columns(Column("email", String)),
        select(func.lower(User.email)).where(User.id.in_(select(User.id).where(User.id < 3))),
        select(User.email, func.max(User.name).label("name"))
        .where(User.id < 3)
        .group_by(User.email),
    ]


@pytest.mark.parametrize("number", range(len(queries())))
def test_any_query_will_do(session: Session, tables: Tables, users: None, number: int) -> None:
    assert place(session, to=queries()[number]).count == 2
    keys = sorted(key for _, key, _ in stored(session, tables))
    assert keys == ["ann.lee@example.com", "bob@example.com"]


def test_what_is_pending_is_found(session: Session, tables: Tables, users: None) -> None:
    session.add(User(id=7, email="new@example.com"))
    assert place(session, to=select(User.__table__.c.email).where(User.id == 7)).count == 1


def test_a_scoped_session_and_a_connection_will_do(
    engine: Engine, tables: Tables, users: None
) -> None:
    session = scoped_session(sessionmaker(engine))
    place(session, to=select(User.email))
    session.commit()
    session.remove()
    with engine.begin() as connection:
        place(connection, to=select(User.email))
    assert counted(engine, tables) == [2, 6, 6]


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
        query = select(User.email, User.name, User.id.label("number"))
        async with AsyncSession(asynchronous) as session, session.begin():
            receipt = await session.run_sync(place, to=query, idempotency_key="k")
            assert receipt.count == 3
        async with AsyncSession(asynchronous) as session, session.begin():
            again = await session.run_sync(place, to=query, idempotency_key="k")
            assert (again.is_new, again.count) == (False, 3)
            await session.run_sync(place, to=query)
            await session.rollback()
        await asynchronous.dispose()

    asyncio.run(work())
    assert counted(engine, tables) == [1, 3, 3]


def test_no_row_passes_through_python(engine: Engine, tables: Tables, users: None) -> None:
    seen: list[str] = []
    with Session(engine) as session, session.begin():
        fill(session, [f"user{number}@example.com" for number in range(5_000)], name="Änn")
        event.listen(
            engine, "before_cursor_execute", lambda *given: seen.append(given[2].split()[0])
        )
        assert place(session, to=select(User.email, User.name, User.id)).count == 5_000
    # The savepoint; message, recipients, a look at the odd ones, the queue, and the hint.
    assert len([one for one in seen if one in ("INSERT", "WITH", "SELECT")]) <= 5
    assert counted(engine, tables) == [1, 5_000, 5_000]


# -- variables ------------------------------------------------------------------------------------


def customers(session: Session, **facts: Any) -> None:
    Base.metadata.create_all(session.connection())
    session.add(Customer(email="ann@example.com", **facts))
    session.flush()


def variables(session: Session, tables: Tables) -> Any:
    ((found,),) = rows(session, "variables", tables.recipient)
    return found


def test_further_columns_are_variables_of_their_types(session: Session, tables: Tables) -> None:
    customers(session, **FACTS)
    columns = [getattr(Customer, name) for name in FACTS]
    place(session, to=select(Customer.email, *columns))
    found = unpack_json(variables(session, tables))
    assert found == FACTS
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in FACTS.items()
    }
    assert str(found["owes"]) == "10.50"


def test_what_is_missing_is_none(session: Session, tables: Tables) -> None:
    customers(session)
    columns = [getattr(Customer, name) for name in FACTS]
    place(session, to=select(Customer.email, *columns, null().label("void")))
    assert variables(session, tables) == dict.fromkeys([*FACTS, "void"])


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_moment_keeps_its_zone(session: Session, tables: Tables) -> None:
    last_seen_at = datetime(2025, 3, 1, 12, 30, tzinfo=UTC)
    customers(session, last_seen_at=last_seen_at)
    place(session, to=select(Customer.email, Customer.last_seen_at))
    assert unpack_json(variables(session, tables)) == {"last_seen_at": last_seen_at}


def test_each_is_greeted_by_name_where_there_are_variables(
    session: Session, tables: Tables, users: None
) -> None:
    said = message(
        subject=Template.from_string("{{ name }} has {{ points }} in {{ year }}", year=1)
    )
    query = select(User.email, User.name, (User.id * 10).label("points"))
    receipt = place(session, said, to=query.where(User.id == 1))
    draft = message_store.load_messages(session.connection(), tables, [receipt.message_id], no_blob)
    rendered = draft[receipt.message_id].draft.rendered(variables(session, tables))
    assert rendered.subject == "Ann Lee has 10 in 1"


def no_blob(sha256: str) -> Any:
    raise AssertionError(f"nothing to read, got: {sha256}")


def test_a_name_alone_is_no_variable(session: Session, tables: Tables, users: None) -> None:
    """One content for all: nothing is rendered at delivery, nor for each of a million."""
    said = message(subject=Template.from_string("Hello {{ who }}", who="all"))
    place(session, said, to=select(User.email, User.name).where(User.id == 1))
    assert variables(session, tables) is None
    assert rows(session, "subject templates", tables.message) == [("Hello all", None)]


def test_variables_of_odd_rows_are_kept(session: Session, tables: Tables, users: None) -> None:
    place(session, to=select(User.email, User.name, User.id).where(User.id == 3))
    assert variables(session, tables) == {"name": " Eve, of Ex ", "id": 3}


# -- what is refused ------------------------------------------------------------------------------


def test_rows_that_are_no_addresses_are_named_and_nothing_is_written(
    engine: Engine, tables: Tables, users: None
) -> None:
    wrong = [None, "", "nobody", "a b@example.com", "a@b@example.com", "a@example.com\nBcc: b@c.de"]
    wrong += [f"wrong{number}" for number in range(30)]
    with Session(engine) as session, session.begin():
        place(session, to=["before@example.com"])
        query = fill(session, [*wrong, "right@example.com", "ü@example.com"])  # type: ignore[list-item]
        with pytest.raises(InvalidAddress) as caught:
            place(session, to=query, idempotency_key="k")
        place(session, to=["after@example.com"])
    said = str(caught.value)
    assert said.startswith("expected the query to find addresses like name@domain.example, got 35")
    assert said.count("there is no @") + said.count("cannot stand there") <= 20
    assert said.endswith("; and 15 more")
    assert counted(engine, tables) == [2, 2, 2]


@pytest.mark.parametrize("email", ["plain@example.com", "Änn <ann@example.com>"])
@pytest.mark.parametrize("name", ["Ann\r\nBcc: eve@example.com", "A\x7f", "A\x85"])
def test_a_name_that_could_end_its_line_is_refused(
    session: Session, users: None, email: str, name: str
) -> None:
    query = fill(session, [email], name=name).add_columns(User.name)
    with pytest.raises(InvalidAddress, match=r"U\+.* as the name of \w+@example\.com"):
        place(session, to=query)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_nothing_hides_behind_a_nul(session: Session, users: None) -> None:
    query = fill(session, ["ann@example.com\0eve@example.com"])
    with pytest.raises(InvalidAddress, match=r"U\+0000"):
        place(session, to=query)
    named = fill(session, ["ann@example.com"], name="Ann\0\nBcc: eve").add_columns(User.name)
    with pytest.raises(InvalidAddress, match=r"U\+0000"):
        place(session, to=named)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_column_of_sqlite_may_hold_anything(session: Session, users: None) -> None:
    session.execute(delete(User))
    session.execute(insert(User), [{"email": 7}, {"email": b"ann@example.com"}])
    with pytest.raises(InvalidAddress, match=r"got 1 that are not: '7'"):
        place(session, to=select(User.email))


def refused_queries() -> list[tuple[Any, str]]:
    many = [literal(number).label(f"v{number}") for number in range(50)]
    return [
        (select(User), r"column 1 \(id\) of the query, its first, to be an address"),
        (select(User.email, User.id + 1), "column 2 without"),
        (select(User.email, User.name, Customer.first.label("name")), "'name' twice"),
        (select(User.email, User.name, User.name), "'name' twice"),
        (select(User.email, literal(1).label("$postroom")), "column 2 without"),
        (select(User.email, *many), "at most 49 further columns, got: 50"),
        (select(Customer.email, Customer.shout), r"column 2 \(shout\).* Shouted"),
        (select(Customer.shout), r"column 1 \(shout\).* Shouted"),
        (select(Customer.email, Customer.picture), r"column 2 \(picture\)"),
        (select(User.email, literal(None, PickleType()).label("x")), r"column 2 \(x\)"),
        (select(User.email, literal(None, Interval()).label("x")), r"column 2 \(x\)"),
    ]


@pytest.mark.parametrize(("query", "why"), refused_queries())
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_query_that_cannot_be_used_says_why(
    session: Session, users: None, query: Any, why: str
) -> None:
    with pytest.raises(RecipientError, match=why):
        place(session, to=query)


def test_a_query_that_fails_leaves_the_transaction_whole(
    engine: Engine, tables: Tables, users: None
) -> None:
    with Session(engine) as session, session.begin():
        place(session, to=["before@example.com"])
        with pytest.raises(Exception, match="no_such_table"):
            place(session, to=text("SELECT a FROM no_such_table").columns(Column("a", String)))
        place(session, to=["after@example.com"])
    assert counted(engine, tables) == [2, 2, 2]


def test_a_session_that_hides_rows_by_events_is_refused(
    engine: Engine, tables: Tables, users: None
) -> None:
    """Else those who are deleted softly would get mail."""
    with Session(engine) as session, session.begin():

        @event.listens_for(session, "do_orm_execute")
        def hide(state: ORMExecuteState) -> None:
            hidden = with_loader_criteria(User, User.username.is_not(None))
            state.statement = state.statement.options(hidden)  # type: ignore[attr-defined]

        with pytest.raises(RecipientError, match=r"do_orm_execute.*session\.connection\(\)"):
            place(session, to=select(User.email))
        own = select(User.email).where(User.username.is_not(None))
        assert place(session.connection(), to=own).count == 2


def test_events_that_change_nothing_are_no_obstacle(session: Session, users: None) -> None:
    seen = []
    event.listen(session, "do_orm_execute", seen.append)
    assert place(session, to=select(User.email)).count == 3
    assert len(seen) == 1


# -- the transaction ------------------------------------------------------------------------------


def test_a_rollback_undoes_it(engine: Engine, tables: Tables, users: None) -> None:
    with Session(engine) as session:
        place(session, to=select(User.email))
        session.rollback()
        with session.begin_nested() as savepoint:
            place(session, to=select(User.email))
            savepoint.rollback()
        session.commit()
    assert counted(engine, tables) == [0, 0, 0]


def test_an_engine_that_nobody_prepared_commits_nothing_either(
    sqlite_url: URL, tables: Tables
) -> None:
    engine = create_engine(sqlite_url)
    schema.create(engine)
    migrate(engine, User(id=1, email="ann@example.com"))
    with Session(engine) as session:
        place(session, to=select(User.email))
        session.rollback()
    assert counted(engine, tables) == [0, 0, 0]
    engine.dispose()


def test_many_odd_rows_are_looked_at_in_portions(
    session: Session, tables: Tables, users: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_insert, "_UNCHECKED_BATCH", 3)
    query = fill(session, [f"ü{number}@example.com" for number in range(10)])
    assert place(session, to=query).count == 10
    wrong = fill(session, [f"wrong {number}" for number in range(10)])
    with pytest.raises(InvalidAddress, match="got 10 that are not"):
        place(session, to=wrong)


# -- keys -----------------------------------------------------------------------------------------


def test_a_key_stands_for_the_query_whatever_it_finds_later(session: Session, users: None) -> None:
    query = select(User.email).where(User.id.in_([1, 2]))
    first = place(session, to=query, idempotency_key="k")
    session.execute(update(User).values(email="other@example.com").where(User.id == 1))
    again = place(session, to=select(User.email).where(User.id.in_([1, 2])), idempotency_key="k")
    assert (again.message_id, again.is_new, again.count) == (first.message_id, False, 2)


@pytest.mark.parametrize(
    "other",
    [
        {"to": select(User.email).where(User.id.in_([1, 3]))},
        {"to": select(User.email, User.name).where(User.id.in_([1, 2]))},
        {"to": [select(User.email).where(User.id.in_([1, 2])), "a@example.com"]},
        {"to": ["a@example.com"]},
    ],
)
def test_another_query_under_the_same_key_is_refused(
    session: Session, users: None, other: dict[str, Any]
) -> None:
    place(session, to=select(User.email).where(User.id.in_([1, 2])), idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        place(session, **other, idempotency_key="k")


# -- whatever the texts ---------------------------------------------------------------------------

LOCAL = st.text(st.sampled_from("aZ0.-_+'@ <\"é\n\x7f"), max_size=6)
DOMAIN = st.text(st.sampled_from("aZ0.-_ü@ >\n"), max_size=8)
ADDRESSES = st.lists(
    st.builds("{}@{}".format, LOCAL, DOMAIN | DOMAIN.map(lambda text: f"{text}.example"))
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10),
    max_size=100,
)


def parsed(texts: list[str]) -> dict[str, Address]:
    found = {}
    for one in texts:
        try:
            found[one] = Address(one)
        except InvalidAddress:
            continue
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(ADDRESSES)
def test_a_database_accepts_what_is_accepted_anywhere(
    session: Session, tables: Tables, users: None, texts: list[str]
) -> None:
    right = parsed(texts)
    wrong = {one for one in texts if one not in right}
    if wrong:
        with pytest.raises(InvalidAddress, match=f"got {len(wrong)} that"):
            place(session, to=fill(session, sorted(wrong)))
    if right:
        place(session, to=fill(session, sorted(right)))
        found = {(address, key) for address, key, _ in stored(session, tables)}
        assert {key for _, key in found} == {one.dedup_key for one in right.values()}
        assert found <= {(one.addr_spec, one.dedup_key) for one in right.values()}
    session.rollback()


def test_given_one_by_one_they_are_written_the_same(
    session: Session, tables: Tables, users: None
) -> None:
    columns = "address address_key name type variables state attempt_count user_ref"
    place(session, to=select(User.email, User.name, User.id))
    by_query = stored(session, tables, columns)
    session.execute(delete(tables.recipient))
    session.execute(delete(tables.queue))
    everyone = session.execute(select(User.email, User.name, User.id)).all()
    place(session, to=[Recipient(row.email, {"name": row.name, "id": row.id}) for row in everyone])
    one_by_one = stored(session, tables, columns)
    assert [row[:2] + row[3:] for row in by_query] == [row[:2] + row[3:] for row in one_by_one]
