"""Whatever a value is made of: it is refused by an error of ours, or it is one line.

The classes and their fields are found by reflection, so that a new one is covered at once.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import postroom
from postroom import (
    Address,
    Attachment,
    CsvStyle,
    DsnOptions,
    Message,
    Outbox,
    PostroomError,
    Recipient,
    Relay,
    RenderBudget,
    Template,
    WorkerConfig,
)
from postroom.delivery.outcomes import RetrySchedule
from postroom.message.content_source import BytesSource
from postroom.message.envelope import Envelope
from postroom.relays.options import Rate
from postroom.relays.relay import Secret, Timeouts
from postroom.relays.route import Failover, RoundRobin

SMTP = Relay(name="main", host="relay.example")

#: How to make each, all of its fields being good.
MADE: Mapping[type[Any], dict[str, Any]] = {
    Address: {"text": "ann@example.com"},
    Attachment: {"filename": "a.pdf", "source": BytesSource(b"")},
    CsvStyle: {},
    DsnOptions: {},
    Envelope: {"sender": "", "recipients": ("a@b.example",), "size_bytes": 0},
    Failover: {"name": "both", "members": (SMTP,)},
    Message: {},
    Rate: {"count": 1, "period_s": 1.0},
    Recipient: {"address": "ann@example.com"},
    Relay: {"name": "main", "host": "relay.example"},
    RenderBudget: {},
    RetrySchedule: {"delays_s": (1.0,)},
    RoundRobin: {"name": "both", "members": (SMTP,)},
    Timeouts: {},
    WorkerConfig: {},
}

#: What Postroom itself makes, to answer; and what is looked at when it is frozen or composed.
ANSWERS = {
    *("Attempt", "CancelResult", "OutboxStats", "Explanation", "MessageStatus", "MessageSummary"),
    *("Receipt", "RecipientStatus", "RoutingTable", "Search", "Template"),
}
#: Free text, of any number of lines; and what separates the cells of a file, as a tab may.
BODIES = {(Message, "text"), (Message, "html"), (CsvStyle, "delimiter")}
#: Looked at when the message is enqueued, where they become JSON; and what is no text at all.
LATER = {(Recipient, "variables"), (Attachment, "source"), (RenderBudget, "clock")}

#: An envelope is made for each mail, by us alone: its paths are checked, what mypy checks is not.
UNCHECKED = {(Envelope, "size_bytes"), (Envelope, "needs_smtputf8"), (Envelope, "dsn")}

FIELDS = [
    (kind, name)
    for kind in MADE
    for name in inspect.signature(kind).parameters
    if (kind, name) not in UNCHECKED
]


class Surly:
    """An object that does not even say what it is."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


HOSTILE: list[Any] = [
    *("x\r\nMAIL FROM:<eve@evil.example>", "a\n", "\r", "a\0b", "\x1b[2J", "\x7f", "\x85", "\t"),
    *("\u2028", "\ud800", "a\ud800\udc00", "x" * 10_000, "é" * 10_000, "", " ", "\ufeff", "<>"),
    *(5, -1, 0, 10**400, 1.5, -0.0, float("nan"), float("inf"), 1e308, True, 1j, None),
    *(b"x", b"\r\n", bytearray(b"x"), Decimal("sNaN"), Decimal("1E+999999"), Ellipsis, object()),
    *([], ["a\r\nb"], [None], ["x" * 10_000], ("a\r\nb",), (SMTP, "x"), {}, {"a\r\nb": "c"}),
    *({"X-A": "c\r\nd"}, {"X-A": 5}, {5: "x"}, [("X-A",)], [("X-A", "\0")], {"é"}, set(), [[]]),
    *(str, lambda: "x", Surly(), [Surly()], {"X-A": Surly()}, datetime(2025, 1, 1)),  # noqa: DTZ001
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-9))),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=9))),
    *(datetime.max.replace(tzinfo=UTC), timedelta(1), ["a\r\n@example.com"], {"urgent": -1}),
]

_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def texts(value: Any) -> Iterator[str]:
    """Yield all text that ``value`` holds, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Secret):
        if isinstance(value._source, str):
            yield value._source
    elif isinstance(value, bytes):
        yield value.decode("latin-1")
    elif isinstance(value, Mapping):
        for item in value.items():
            yield from texts(item)
    elif isinstance(value, tuple | list | set | frozenset):
        for item in value:
            yield from texts(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if (type(value), field.name) not in BODIES | LATER:
                yield from texts(getattr(value, field.name))


def check(make: Callable[[], Any]) -> None:
    """Make a value: nothing but an error of ours, or one line of every text in it."""
    try:
        made = make()
    except PostroomError as error:
        text = str(error)
    else:
        assert [text for text in texts(made) if _UNWRITABLE.search(text)] == []
        return
    assert text.encode()  # it can be stored and logged
    assert len(text) < 1500


def test_every_public_class_is_covered() -> None:
    public = {name: getattr(postroom, name) for name in postroom.__all__}
    values = {name for name, one in public.items() if dataclasses.is_dataclass(one)}

    assert values <= {kind.__name__ for kind in MADE} | ANSWERS


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=lambda one: getattr(one, "__name__", one))
def test_a_hostile_field_is_refused_or_one_line(kind: type[Any], field: str) -> None:
    for hostile in HOSTILE:
        check(lambda hostile=hostile: kind(**MADE[kind] | {field: hostile}))  # type: ignore[misc]


@given(st.sampled_from(FIELDS), st.text() | st.text(st.characters(codec="utf-8"), min_size=90))
def test_any_text_in_any_field_is_refused_or_one_line(
    where: tuple[type[Any], str], text: str
) -> None:
    kind, field = where
    check(lambda: kind(**MADE[kind] | {field: text}))


FACTORIES: Mapping[str, Callable[[Any], Any]] = {
    "Address": Address,
    "Address, its local part": lambda value: Address.from_parts(local=value, domain="a.example"),
    "Address, its domain": lambda value: Address.from_parts(local="ann", domain=value),
    "Address, its name": lambda value: Address("ann@a.example").with_name(value),
    "Attachment.from_path": Attachment.from_path,
    "Attachment.from_path, cid": lambda it: Attachment.from_path("a.png", cid=it),
    "Attachment.from_path, filename": lambda it: Attachment.from_path("a.png", filename=it),
    "Attachment.from_bytes": lambda it: Attachment.from_bytes("a.pdf", it),
    "Attachment.from_bytes, filename": lambda it: Attachment.from_bytes(it, b""),
    "Attachment.from_file": lambda it: Attachment.from_file("a.pdf", it),
    "Attachment.from_chunks": lambda it: Attachment.from_chunks("a.pdf", it),
    "Attachment.csv": lambda it: Attachment.csv("a.csv", it),
    "Attachment.csv, columns": lambda it: Attachment.csv("a.csv", [], columns=it),
    "Attachment.excel": lambda it: Attachment.excel("a.xlsx", it),
    "Attachment.excel, columns": lambda it: Attachment.excel("a.xlsx", [], columns=it),
    "Attachment.inline": Attachment.inline,
    "Attachment.message": Attachment.from_message,
    "Attachment.calendar": Attachment.calendar,
    "Attachment.calendar, method": lambda it: Attachment.calendar("", method=it),
    "Message, reply_to_message": lambda it: Message(reply_to_message=it),
    "Outbox, sender": lambda it: Outbox(sender=it) and None,
    "Outbox, redirect_all_to": lambda it: Outbox(redirect_all_to=it) and None,
    "Outbox, relay": lambda it: Outbox(it) and None,
    "Outbox, schema": lambda it: Outbox(schema=it) and None,
    "Outbox, max_message_bytes": lambda it: Outbox(max_message_bytes=it) and None,
    "Relay.parse": Relay.parse,
    "Relay.parse, name": lambda it: Relay.parse("smtp://relay.example", name=it),
    "Relay.parse, password": lambda it: Relay.parse("smtp://me@relay.example", password=it),
    "Relay.parse, token": lambda it: Relay.parse("smtp://me@relay.example", token=it),
    "Template": lambda it: Template(it) and None,
    "Template.from_string": lambda it: Template.from_string(it) and None,
}


@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
def test_hostile_arguments_are_refused_or_one_line(factory: Callable[[Any], Any]) -> None:
    for hostile in HOSTILE:
        check(lambda hostile=hostile: factory(hostile))  # type: ignore[misc]


def test_a_relay_cannot_be_made_to_speak_for_somebody_else() -> None:
    with pytest.raises(PostroomError, match="the option ehlo of a relay"):
        Relay(name="main", host="relay.example", ehlo_name="x\r\nMAIL FROM:<eve@evil.example>")


def test_a_password_that_no_login_carries_is_refused_unseen() -> None:
    with pytest.raises(PostroomError) as error:
        Relay.parse("smtp://me@relay.example", password="hunter2\n")

    assert "hunter2" not in str(error.value)
