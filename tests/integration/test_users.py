"""Users are found in the application's own tables, however it maps them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import flask
import pytest
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    URL,
    Column,
    Engine,
    ForeignKey,
    Integer,
    String,
    Table,
    create_engine,
    select,
)
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    registry,
    relationship,
    synonym,
)
from sqlalchemy.types import TypeDecorator

from postroom.errors import ConfigError, RecipientError
from postroom.message.address import Address
from postroom.storage.enqueue_request import OutboxDefaults
from postroom.storage.users import UserLookup
from tests.integration.shop import User, migrate, place

ANN = Address("Ann <ann@example.com>")


class Base(DeclarativeBase):
    """Models of an application with habits of its own."""


class Upper(TypeDecorator[str]):
    """Ids that look one way in Python and another in the database."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> int:
        return int(value.removeprefix("U"))

    def process_result_value(self, value: Any, dialect: Any) -> str:
        return f"U{value}"


class Member(Base):
    __tablename__ = "member"

    uuid: Mapped[UUID] = mapped_column("member_uuid", primary_key=True)
    mail: Mapped[str]
    first: Mapped[str]
    email = synonym("mail")

    @hybrid_property
    def name(self) -> str:
        return self.first


class Account(Base):
    __tablename__ = "account"

    id: Mapped[str] = mapped_column(Upper, primary_key=True, autoincrement=False)
    email: Mapped[str]


class Team(Base):
    """Its ``name`` is no text but another row."""

    __tablename__ = "team"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    name_id: Mapped[int | None] = mapped_column(ForeignKey("member.member_uuid"))
    name: Mapped[Member | None] = relationship(foreign_keys=[name_id], viewonly=True)


class Nobody(Base):
    __tablename__ = "nobody"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str]


class Pair(Base):
    __tablename__ = "pair"

    a: Mapped[int] = mapped_column(primary_key=True)
    b: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]


@pytest.fixture
def session() -> Iterator[Session]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    migrate(engine, User(id=1, email="ann@example.com", name="Ann"))
    with Session(engine) as session:
        yield session
    engine.dispose()


def test_a_mapped_class_is_asked_for_key_email_and_name(session: Session) -> None:
    assert UserLookup.of(User).find(session, [1]) == {1: ANN}


def test_a_select_may_name_its_columns_as_it_likes(session: Session) -> None:
    people = UserLookup.of(select(User.id, User.email, User.name).where(User.username.is_(None)))
    assert people.find(session, [1]) == {1: ANN}
    without_name = UserLookup.of(select(User.id, User.email))
    assert without_name.find(session, [1]) == {1: Address("ann@example.com")}


def test_a_core_table_will_do(session: Session) -> None:
    table = User.__table__
    people = UserLookup.of(select(table.c.id, table.c.email, table.c.name))
    assert people.find(session.connection(), [1]) == {1: ANN}


def test_synonyms_hybrids_and_renamed_columns_are_followed(session: Session) -> None:
    one = UUID(int=7)
    session.add(Member(uuid=one, mail="ann@example.com", first="Ann"))
    people = UserLookup.of(Member)
    assert people.find(session, [one]) == {one: ANN}
    assert people.find(session, [str(one)]) == {one: ANN}


def test_a_type_of_the_application_s_own_takes_its_own_ids(session: Session) -> None:
    session.add(Account(id="U7", email="ann@example.com"))
    assert list(UserLookup.of(Account).find(session, ["U7"])) == ["U7"]


def test_an_imperatively_mapped_class_will_do(session: Session) -> None:
    class Plain:
        pass

    mapper = registry()
    table = Table(
        "plain", mapper.metadata, Column("id", Integer, primary_key=True), Column("email", String)
    )
    mapper.map_imperatively(Plain, table)
    mapper.metadata.create_all(session.connection())
    session.execute(table.insert().values(id=1, email="ann@example.com"))
    assert list(UserLookup.of(Plain).find(session, [1])) == [1]


def test_a_relationship_called_name_is_no_name(session: Session) -> None:
    session.add(Team(id=1, email="team@example.com"))
    assert UserLookup.of(Team).find(session, [1]) == {1: Address("team@example.com")}


def test_many_are_found_in_few_selects(session: Session) -> None:
    ids = range(2, 25_002)
    session.add_all(User(id=one, email=f"user{one}@example.com") for one in ids)
    assert list(UserLookup.of(User).find(session, ids)) == list(ids)


def test_of_many_wrong_ones_twenty_are_named(session: Session) -> None:
    with pytest.raises(RecipientError) as caught:
        UserLookup.of(User).find(session, range(100, 150))
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 30 more"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (Nobody, "an attribute 'email'"),
        (Pair, "a primary key of one column"),
        (object, "a mapped class or select"),
        ("users", "a mapped class or select"),
        (select(User.id), "got: 1 columns"),
        (select(User), "got: 4 columns"),
    ],
)
def test_what_cannot_be_asked_for_users_is_refused(source: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        UserLookup.of(source)


def test_flask_sqlalchemy_s_session_will_do(engine: Engine, database_url: URL) -> None:
    app = flask.Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    db = SQLAlchemy(app)

    class Customer(db.Model):  # type: ignore[name-defined,misc]
        id = db.Column(db.Integer, primary_key=True)
        email = db.Column(db.String)

    terms = OutboxDefaults(users=UserLookup.of(Customer))
    with app.app_context():
        db.create_all()
        db.session.add(Customer(id=1, email="ann@example.com"))
        receipt = place(db.session, user_ids=[1], terms=terms, idempotency_key="k")
        db.session.commit()
        again = place(db.session, user_ids=[1], terms=terms, idempotency_key="k")
        db.session.rollback()
        place(db.session, user_ids=[1], terms=terms)
        db.session.rollback()
        db.engine.dispose()
    assert (again.message_id, again.is_new) == (receipt.message_id, False)
    with Session(engine) as session:
        assert not place(session, user_ids=[1], terms=terms, idempotency_key="k").is_new
