"""Whatever an application's own code raises where it meets Postroom, the outbox goes on.

What is being enqueued is not stored, not even in part, though the caller commits; the error is ours
or the application's own, unchanged; no file stays open; and the next mail is enqueued and arrives.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
from flask import Flask
from sqlalchemy import Engine, String, event, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.types import TypeDecorator

from postroom import Attachment, Message, MessageError, Outbox, PostroomError, Recipient, Template
from postroom.integrations.flask.process_worker import ProcessWorker
from postroom.storage import tables as models
from postroom.testing import FaultyRelay
from postroom.text import shorten_repr


class Boom(Exception):
    """Raised by the application's own code; cannot even say what it is."""

    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


class Mute:
    """An object that shows nothing of itself."""

    def __str__(self) -> str:
        raise Boom

    __repr__ = __format__ = __str__  # type: ignore[assignment]


class Strange(Mute):
    """One that cannot be compared or hashed either."""

    def __eq__(self, other: object) -> bool:
        raise Boom

    def __hash__(self) -> int:
        raise Boom


class Explosive(TypeDecorator[str]):
    """A column that cannot be read."""

    impl = String
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Any) -> str:
        raise Boom


class Base(DeclarativeBase):
    """The application's metadata."""


class User(Base):
    """Somebody whose address cannot be read."""

    __tablename__ = "explosive_user"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Explosive())


def halfway(*items: Any) -> Iterator[Any]:
    yield from items
    raise Boom


class Reader(io.RawIOBase):
    """A file that fails after its first piece."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.pieces = [b"x" * 2_000_000]

    def read(self, size: int | None = -1) -> bytes:
        if self.pieces:
            return self.pieces.pop()
        raise self.error


class Context:
    """What a template is given."""

    @property
    def name(self) -> str:
        raise Boom


class Loader(jinja2.BaseLoader):
    def get_source(self, environment: object, template: str) -> Any:
        raise Boom


def message(**fields: Any) -> Message:
    return Message(**{"subject": "Hello", "text": "Is it there?", **fields})


def attached(attachment: Attachment) -> Message:
    return message(attachments=[attachment])


def written(file: Any) -> None:
    file.write(b"x" * 2_000_000)
    raise Boom


ADA = "ada@example.com"
MUTE = Mute()

Enqueue = Callable[[Outbox, Session], object]


def to_ada(make: Callable[[], Message]) -> Enqueue:
    return lambda outbox, session: outbox.enqueue(session, make(), to=[ADA])


def addressed(**given: Any) -> Enqueue:
    return lambda outbox, session: outbox.enqueue(session, message(), **given)


#: What raises, and the error that its caller sees.
RECIPIENTS: dict[str, tuple[Enqueue, type[Exception]]] = {
    "to, halfway": (lambda o, s: o.enqueue(s, message(), to=halfway(ADA)), Boom),
    "cc, halfway": (lambda o, s: o.enqueue(s, message(), to=[ADA], cc=halfway(ADA)), Boom),
    "bcc, halfway": (lambda o, s: o.enqueue(s, message(), to=[ADA], bcc=halfway(ADA)), Boom),
    "users, halfway": (lambda o, s: o.enqueue(s, message(), user_ids=halfway(1)), Boom),
    "a user's address": (addressed(user_ids=[1]), Boom),
    "a user id": (addressed(user_ids=[MUTE]), MessageError),
    "a user id without a hash": (addressed(user_ids=[Strange()]), MessageError),
    "a recipient": (addressed(to=[MUTE]), MessageError),
    "recipients that are none": (addressed(to=MUTE), MessageError),
    "a recipient's variable": (
        lambda o, s: o.enqueue(s, message(), to=[_with(MUTE)]),
        MessageError,
    ),
    "a recipient's variables' key": (
        lambda o, s: o.enqueue(s, message(), to=[Recipient(ADA, {MUTE: 1})]),  # type: ignore[dict-item]
        MessageError,
    ),
    "the key": (addressed(to=[ADA], idempotency_key=MUTE), MessageError),
}


def _with(value: object) -> Recipient:
    return Recipient(ADA, {"value": value})


FIELDS: dict[str, Any] = {
    "subject": MUTE,
    "text": MUTE,
    "html": MUTE,
    "sender": MUTE,
    "envelope_sender": MUTE,
    "reply_to": [MUTE],
    "headers": {"X-Mute": MUTE},
    "headers, a name": {"headers": {MUTE: "x"}},
    "headers, halfway": lambda: {"headers": halfway(("X-One", "1"))},
    "attachments": [MUTE],
    "tags": [MUTE],
    "tags, halfway": lambda: {"tags": halfway("one")},
    "lane": MUTE,
    "on_doubt": Strange(),
    "relay": MUTE,
    "scheduled_at": MUTE,
    "expires_at": MUTE,
    "retry_delays_s": [MUTE],
    "dsn": MUTE,
}

CONTENTS: dict[str, tuple[Enqueue, type[Exception]]] = {
    "chunks": (
        to_ada(lambda: attached(Attachment.from_chunks("a", halfway(b"x" * 2_000_000)))),
        Boom,
    ),
    "chunks of no bytes": (
        to_ada(lambda: attached(Attachment.from_chunks("a", [MUTE]))),
        MessageError,
    ),  # type: ignore[list-item]
    "a file": (to_ada(lambda: attached(Attachment.from_file("a", Reader(Boom())))), Boom),  # type: ignore[arg-type]
    "a file that breaks": (
        to_ada(lambda: attached(Attachment.from_file("a", Reader(OSError(5, "I/O error"))))),  # type: ignore[arg-type]
        MessageError,
    ),
    "the rows of a CSV file": (
        to_ada(lambda: attached(Attachment.csv("a.csv", halfway({"a": 1})))),
        Boom,
    ),
    "a cell of a CSV file": (
        to_ada(lambda: attached(Attachment.csv("a.csv", [{"a": MUTE}]))),
        MessageError,
    ),
    "the rows of a sheet": (
        to_ada(lambda: attached(Attachment.excel("a.xlsx", {"A": halfway({"a": 1})}))),
        Boom,
    ),
    "the name of a file": (
        to_ada(lambda: attached(Attachment.from_bytes(MUTE, b""))),
        MessageError,
    ),  # type: ignore[arg-type]
    "the bytes of a file": (
        to_ada(lambda: attached(Attachment.from_bytes("a", MUTE))),
        MessageError,
    ),  # type: ignore[arg-type]
    "a property in a template": (
        to_ada(lambda: message(text=Template.from_string("{{ it.name }}", it=Context()))),
        MessageError,
    ),
    "an object in a template": (
        to_ada(lambda: message(text=Template.from_string("{{ it }}", it=MUTE))),
        MessageError,
    ),
    "the name of a template": (to_ada(lambda: message(text=Template(MUTE))), MessageError),  # type: ignore[arg-type]
    "the source of a template": (
        to_ada(lambda: message(text=Template.from_string(MUTE))),
        MessageError,
    ),  # type: ignore[arg-type]
    "a locale": (to_ada(lambda: Message.from_templates("order", locale=MUTE)), MessageError),  # type: ignore[arg-type]
    "the loader of templates": (
        to_ada(lambda: message(text=Template("any.txt"))),
        (MessageError, Boom),
    ),  # type: ignore[dict-item]
}


def _field(name: str, value: Any) -> Enqueue:
    if callable(value):  # an iterator is used up by one test
        return to_ada(lambda: message(**value()))
    fields = value if isinstance(value, dict) and "," in name else {name: value}
    return to_ada(lambda: message(**fields))


TABLE = (
    RECIPIENTS
    | {
        f"the field {n}": (_field(n, v), Boom if callable(v) else MessageError)
        for n, v in FIELDS.items()
    }
    | CONTENTS
)


@pytest.fixture
def outbox(engine: Engine, relay: FaultyRelay) -> Iterator[Outbox]:
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(User(id=1, email=ADA))
        session.commit()
    outbox = Outbox(
        relay.url, engine=engine, users=User, sender="shop@example.com", templates=Loader()
    )
    yield outbox
    outbox.close()


@pytest.fixture
def relay() -> Iterator[FaultyRelay]:
    with FaultyRelay() as relay:
        yield relay


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def stored(session: Session, tables: models.Tables) -> int:
    every = (tables.message, tables.recipient, tables.attachment, tables.blob)
    return sum(session.scalar(select(func.count()).select_from(table)) or 0 for table in every)


@pytest.mark.parametrize("what", TABLE)
def test_what_raises_while_it_is_enqueued_leaves_nothing_and_stops_nothing(
    outbox: Outbox, engine: Engine, tables: models.Tables, relay: FaultyRelay, what: str
) -> None:
    enqueue, expected = TABLE[what]
    with Session(engine) as session:
        session.scalar(select(1))
        before = open_files()
        with pytest.raises(expected) as raised:
            enqueue(outbox, session)
        if isinstance(raised.value, PostroomError):
            assert len(str(raised.value)) < 1000  # and it can be said
        assert open_files() == before
        session.commit()  # a caller may go on without the mail
        assert stored(session, tables) == 0
        outbox.enqueue(session, message(), to=["bob@example.com"])
        session.commit()
    assert outbox.worker().drain()
    assert [mail.recipients for mail in relay.accepted] == [("bob@example.com",)]


@pytest.mark.parametrize("value", [MUTE, Strange(), "x" * 10_000, b"x" * 10_000, list(range(9999))])
def test_any_object_is_shown_briefly_and_none_raises(value: object) -> None:
    assert 0 < len(shorten_repr(value)) < 130


# Wake-ups and hooks


def test_a_hint_that_raises_is_no_failed_commit_and_the_others_are_given(
    outbox: Outbox, engine: Engine, relay: FaultyRelay, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def broken() -> None:
        heard.append("broken")
        raise Boom

    outbox.add_wakeup(broken)
    outbox.add_wakeup(lambda: heard.append("whole"))
    with outbox.running(), caplog.at_level(logging.WARNING, "postroom"), Session(engine) as session:
        receipt = outbox.enqueue(session, message(), to=[ADA])
        session.commit()
        assert outbox.status(session, receipt).recipients
        session.rollback()
        assert outbox.deliver(session, receipt).state == "accepted"
    assert heard == ["broken", "whole"]
    assert "a wakeup failed" in caplog.text


def test_a_server_that_can_start_no_thread_answers_requests_and_delivers_later(
    outbox: Outbox, engine: Engine, relay: FaultyRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, serving = Flask(__name__), ProcessWorker(outbox)
    app.before_request(serving.start)
    app.add_url_rule("/", view_func=lambda: "here")
    with Session(engine) as session:
        receipt = outbox.enqueue(session, message(), to=[ADA])
        session.commit()
    with monkeypatch.context() as patched:

        def no_thread(self: object) -> None:
            raise RuntimeError("can't start new thread")

        patched.setattr("postroom.integrations.flask.process_worker._StartThread.start", no_thread)
        assert app.test_client().get("/").text == "here"
    assert app.test_client().get("/").text == "here"
    with Session(engine) as session:
        assert outbox.deliver(session, receipt).state == "accepted"
    serving.stop()


def test_a_session_hook_that_raises_takes_the_mail_along(
    outbox: Outbox, engine: Engine, tables: models.Tables
) -> None:
    with Session(engine) as session:

        def before_commit(_: Session) -> None:
            raise Boom

        event.listen(session, "before_commit", before_commit)
        outbox.enqueue(session, message(), to=[ADA])
        with pytest.raises(Boom):
            session.commit()
        session.rollback()
    with Session(engine) as session:
        assert stored(session, tables) == 0
