"""A message is parsed, checked and frozen where it is made."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage
from typing import Any

import pytest

from postroom.errors import InvalidAddress, InvalidHeader, MessageError
from postroom.message.address import Address
from postroom.message.attachment import Attachment
from postroom.message.envelope import DsnOptions
from postroom.message.message import Message, Recipient
from postroom.message.mime.fields import custom_field
from postroom.message.templates import Template
from postroom.states import Lane, OnDoubt

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)


def test_what_is_written_as_text_becomes_what_it_means() -> None:
    message = Message(
        sender="Shop <shop@example.com>",
        reply_to=["Help <help@example.com>"],
        lane="urgent",  # type: ignore[arg-type]
        on_doubt="hold",  # type: ignore[arg-type]
        tags=["order"],
        headers={"X-Order": "A-1001"},
        envelope_sender="bounces@bücher.example",
        retry_delays_s=[1, 2.5],
    )
    assert message.sender == Address("Shop <shop@example.com>")
    assert message.reply_to == (Address("Help <help@example.com>"),)
    assert (message.lane, message.on_doubt) == (Lane.URGENT, OnDoubt.HOLD)
    assert (message.tags, message.headers) == (("order",), (("X-Order", "A-1001"),))
    assert message.envelope_sender == "bounces@xn--bcher-kva.example"
    assert message.retry_delays_s == (1.0, 2.5)


def test_it_cannot_be_changed_afterwards() -> None:
    tags = ["a"]
    message = Message(tags=tags)
    tags.append("b")
    assert message.tags == ("a",)
    with pytest.raises(FrozenInstanceError):
        message.subject = "other"  # type: ignore[misc]


def test_a_changed_copy_is_checked_like_a_new_one() -> None:
    message = Message(subject="a", headers=[("X-A", "1")], reply_to_message="a@b.example")
    assert replace(message, text="b") == Message(
        subject="a", text="b", headers={"X-A": "1"}, reply_to_message="a@b.example"
    )
    with pytest.raises(InvalidHeader):
        replace(message, subject="a\nb")


def test_the_null_reverse_path_is_not_the_default() -> None:
    assert Message().envelope_sender is None
    assert Message(envelope_sender="").envelope_sender == ""


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"sender": "shop"}, InvalidAddress, "there is no @"),
        ({"sender": 7}, MessageError, "a str or an Address"),
        ({"subject": "a\r\nBcc: x@y.example"}, InvalidHeader, "one line"),
        ({"subject": None}, InvalidHeader, "the subject to be text"),
        ({"text": "a\0b"}, MessageError, "without NUL"),
        ({"html": "\ud800"}, MessageError, "lone surrogates"),
        ({"text": b"bytes"}, MessageError, "a str or a Template, got: bytes"),
        ({"reply_to": "help@example.com"}, MessageError, "reply_to` must be a list"),
        ({"reply_to": ["a", "ok@example.com", "b"]}, InvalidAddress, "got 2 that are not"),
        ({"attachments": ["a.pdf"]}, MessageError, "from_path"),
        (
            {"attachments": Attachment.from_bytes("a", b"")},
            MessageError,
            "must be a list",
        ),
        ({"headers": {"X A": "1"}}, InvalidHeader, "header name"),
        ({"headers": {"X-A": "1\n2"}}, InvalidHeader, "X-A"),
        ({"headers": {"Subject": "a"}}, InvalidHeader, "set subject="),
        ({"headers": ["X-A"]}, InvalidHeader, "a name and a value"),
        ({"headers": [("Sender", "a@b.c"), ("sender", "d@e.f")]}, InvalidHeader, "once"),
        ({"headers": {"References": "<a@b>"}, "references": ["c@d"]}, InvalidHeader, "once"),
        ({"in_reply_to": "no id"}, InvalidHeader, "a Message-ID"),
        ({"references": "<a@b>"}, MessageError, "references` must be a list"),
        ({"envelope_sender": "nobody"}, InvalidAddress, "there is no @"),
        ({"lane": "urgnt"}, MessageError, "did you mean 'urgent'"),
        ({"on_doubt": "ask"}, MessageError, "one of resend, hold"),
        ({"relay": ""}, MessageError, "the relay"),
        ({"relay": "x" * 65}, MessageError, "up to 64 characters"),
        ({"scheduled_at": datetime(2025, 3, 1)}, MessageError, "with a time zone"),  # noqa: DTZ001
        ({"expires_at": "tomorrow"}, MessageError, "with a time zone"),
        ({"tags": "order"}, MessageError, "tags` must be a list"),
        ({"tags": ["a", ""]}, MessageError, "without an empty text"),
        ({"retry_delays_s": [-1]}, MessageError, "0 or more"),
        ({"retry_delays_s": [float("nan")]}, MessageError, "0 or more"),
        ({"retry_delays_s": [True]}, MessageError, "0 or more"),
        ({"dsn": "NEVER"}, MessageError, "a DsnOptions"),
    ],
)
def test_what_cannot_be_sent_is_refused_at_once(
    fields: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        Message(**fields)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"notify": ("NEVER", "DELAY")}, "NEVER"),
        ({"ret": "ALL"}, "FULL, HDRS"),
        ({"envid": "ü"}, "ASCII"),
    ],
)
def test_a_notice_that_no_relay_understands_is_refused(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(MessageError, match=text):
        DsnOptions(**fields)


def test_a_template_is_taken_where_a_text_is() -> None:
    subject = Template.from_string("Order {{ number }}", number=7)
    assert Message(subject=subject, text=subject, html=subject).subject is subject


def test_it_must_not_expire_before_it_may_go() -> None:
    with pytest.raises(MessageError, match="expires_at to be after scheduled_at"):
        Message(scheduled_at=NOON, expires_at=NOON)
    tokyo = NOON.astimezone(timezone(timedelta(hours=9)))
    assert Message(scheduled_at=tokyo, expires_at=NOON + timedelta(seconds=1)).scheduled_at == NOON


def test_a_name_given_twice_is_two_headers_where_that_may_be() -> None:
    message = Message(headers=[("X-Tag", "a"), ("X-Tag", "b")])
    assert message.headers == (("X-Tag", "a"), ("X-Tag", "b"))


def test_an_answer_refers_to_its_question_by_id() -> None:
    message = Message(reply_to_message="<q@example.com>")
    assert message.extra_headers == (
        ("In-Reply-To", "<q@example.com>"),
        ("References", "<q@example.com>"),
    )


def test_an_answer_to_a_parsed_message_continues_its_thread() -> None:
    question = EmailMessage()
    question["Message-ID"] = "<2@example.com>"
    question["References"] = "<0@example.com> broken <1@example.com>"
    message = Message(reply_to_message=question)
    assert message.in_reply_to == "<2@example.com>"
    assert message.references == ("<0@example.com>", "<1@example.com>", "<2@example.com>")


def test_an_answer_to_a_message_without_an_id_is_refused() -> None:
    with pytest.raises(InvalidHeader, match="a Message-ID"):
        Message(reply_to_message=EmailMessage())


def test_a_bundle_of_templates_gives_subject_and_bodies() -> None:
    message = Message.from_templates("order", locale="de", context={"number": 7}, tags=["order"])
    assert isinstance(message.subject, Template)
    assert isinstance(message.html, Template)
    assert message.html.context["number"] == 7
    assert message.tags == ("order",)


def test_a_recipient_is_parsed_and_keeps_values_of_its_own() -> None:
    values = {"name": "Ann"}
    recipient = Recipient("Ann <ann@example.com>", values)
    values["name"] = "Bob"
    assert recipient.address == Address("Ann <ann@example.com>")
    assert recipient.variables == {"name": "Ann"}


@pytest.mark.parametrize("variables", [["a"], "a"])
def test_variables_are_a_mapping(variables: Any) -> None:
    with pytest.raises(MessageError, match="variables to be a mapping"):
        Recipient("a@example.com", variables)


def test_a_tab_pasted_into_a_subject_or_a_name_is_a_space() -> None:
    message = Message(sender="Ann\tSmith <ann@example.com>\t", subject="Order\t\tA-1001\t")

    assert message.subject == "Order A-1001"
    assert str(message.sender) == "Ann Smith <ann@example.com>"


@pytest.mark.parametrize("subject", ["a\nb", "a\r\tb", "a\0b", "a\x1bb"])
def test_what_nobody_pastes_into_a_subject_is_refused(subject: str) -> None:
    with pytest.raises(InvalidHeader, match="the subject"):
        Message(subject=subject)


ADDRESS_HEADERS = [
    *("Mail-Followup-To", "Resent-From", "Resent-To", "Resent-Cc", "Resent-Bcc", "Resent-Sender"),
    *("Disposition-Notification-To", "Errors-To", "Sender", "Return-Receipt-To"),
]


@pytest.mark.parametrize("name", ADDRESS_HEADERS)
@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("Jörg <joerg@example.com>", "=?utf-8?b?SsO2cmc=?= <joerg@example.com>"),
        (
            '"Müller, Eva" <eva@bücher.example>, <bob@example.com>',
            "=?utf-8?b?TcO8bGxlciwgRXZh?= <eva@xn--bcher-kva.example>, bob@example.com",
        ),
        ("Ann <ann@example.com>", "Ann <ann@example.com>"),
    ],
)
def test_only_the_names_in_an_address_header_are_encoded(
    name: str, value: str, written: str
) -> None:
    (header,) = Message(headers={name: value}).extra_headers

    lines = custom_field(*header).split("\r\n")
    assert "".join(lines) == f"{name}: {written}"


@pytest.mark.parametrize("value", ["Jörg", "Jörg <joerg>", "Jörg <a@b.example> c@d.example", "é,"])
def test_an_address_header_that_holds_none_is_refused(value: str) -> None:
    with pytest.raises(InvalidHeader, match="the header Resent-To must hold addresses"):
        Message(headers={"Resent-To": value})


@pytest.mark.parametrize(
    "moment",
    [
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
    ],
)
@pytest.mark.parametrize("field", ["scheduled_at", "expires_at"])
def test_a_moment_that_utc_cannot_say_is_refused(field: str, moment: datetime) -> None:
    with pytest.raises(MessageError, match=f"{field} must be a moment between the years"):
        Message(**{field: moment})
