"""From a message to a draft: nothing is left open, and nothing unfit gets in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import InvalidHeader, MessageError, TemplateError
from postroom.message.address import Address
from postroom.message.attachment import Disposition
from postroom.message.draft import EnqueueContext, make_draft
from postroom.message.message import Draft, Message, StoredAttachment
from postroom.message.mime import compose
from postroom.message.templates import FrozenTemplate, Template, Templates
from tests.mime.drafts import line, part
from tests.mime.rules import violations

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
SHOP = Address("Shop <shop@example.com>")
LOGO = StoredAttachment(
    filename="logo.png",
    content_type="image/png",
    disposition=Disposition.INLINE,
    content_id="logo",
    size_bytes=0,
    open=lambda: iter(()),
)


def draft(
    message: Message,
    files: dict[str, str] | None = None,
    *,
    sender: Address | None = SHOP,
    **overrides: Any,
) -> Draft:
    occasion = EnqueueContext(
        sender=sender,
        templates=Templates.of(jinja2.DictLoader(files or {})),
        message_id_seed="0" * 32,
        date=NOON,
    )
    return make_draft(message, occasion, **{"parts": (), "has_variables": False} | overrides)


def test_the_message_s_own_sender_wins_over_the_outbox_s() -> None:
    assert draft(Message()).sender == SHOP
    assert draft(Message(sender="a@example.com")).sender == Address("a@example.com")


def test_without_any_sender_it_says_where_to_set_one() -> None:
    with pytest.raises(MessageError, match=r"set Message\(sender=…\) or Outbox\(sender=…\)"):
        draft(Message(), sender=None)


def test_text_is_never_rendered() -> None:
    written = draft(Message(subject="{{ 7 * 7 }}", text="{{ 7 * 7 }}", html="{{ 7 * 7 }}"))
    assert (written.subject, written.text, written.html) == ("{{ 7 * 7 }}",) * 3


def test_templates_are_rendered_with_what_they_were_given() -> None:
    message = Message(
        subject=Template.from_string("Order {{ number }}\n", number=7),
        html=Template("order.html", name="<Ann>"),
    )
    written = draft(message, {"order.html": "<p>{{ name }}</p>"})
    assert (written.subject, written.html) == ("Order 7", "<p>&lt;Ann&gt;</p>")
    assert not written.is_templated


def test_html_alone_gets_its_text() -> None:
    assert draft(Message(html="<p>Hello <b>Ann</b></p>")).text == "Hello Ann"
    assert draft(Message(html="<p>a</p>", text="b")).text == "b"
    assert draft(Message(html="<p>a</p>", text="")).text == ""


def test_where_recipients_bring_variables_templates_wait_for_them() -> None:
    message = Message(
        subject=Template.from_string("Dear {{ name }}"),
        html=Template.from_string("<p>{{ name }}</p>"),
    )
    waiting = draft(message, has_variables=True)
    assert waiting.is_templated
    assert isinstance(waiting.html, FrozenTemplate)
    ready = waiting.rendered({"name": "Ann & Bob"})
    assert ready.subject == "Dear Ann & Bob"
    assert ready.html == "<p>Ann &amp; Bob</p>"
    assert ready.text == "Ann & Bob"
    assert not ready.is_templated


def test_a_draft_without_templates_is_rendered_as_it_is() -> None:
    written = draft(Message(subject="a"))
    assert written.rendered({"name": "Ann"}) is written


def test_a_rendered_subject_cannot_start_another_header() -> None:
    subject = Template.from_string("Dear {{ name }}", name="Ann\r\nBcc: x@y.example")
    with pytest.raises(InvalidHeader, match="the rendered subject"):
        draft(Message(subject=subject))
    waiting = draft(Message(subject=Template.from_string("{{ name }}")), has_variables=True)
    with pytest.raises(InvalidHeader, match="the rendered subject"):
        waiting.rendered({"name": "Ann\r\nBcc: x@y.example"})


def test_a_body_that_renders_to_what_cannot_be_stored_is_refused() -> None:
    with pytest.raises(MessageError, match="without NUL"):
        draft(Message(text=Template.from_string("{{ a }}", a="\0")))


def test_a_template_error_names_file_and_line() -> None:
    with pytest.raises(TemplateError, match=r"order\.html, line 2"):
        draft(Message(html=Template("order.html")), {"order.html": "\n{{ missing }}"})


def test_inline_images_are_found_by_their_file_name() -> None:
    html = Template.from_string('<img src="{{ inline("logo.png") }}">')
    assert draft(Message(html=html), parts=[LOGO]).html == '<img src="cid:logo">'


def test_headers_and_thread_stand_together() -> None:
    written = draft(Message(headers={"X-A": "1"}, reply_to_message="q@example.com"))
    assert [name for name, _ in written.headers] == ["X-A", "In-Reply-To", "References"]


HEADER_NAMES = [
    *("List-ID", "References", "In-Reply-To", "List-Unsubscribe", "Auto-Submitted", "Importance"),
    *("Resent-To", "Sender", "Errors-To", "Disposition-Notification-To", "X-Order", "Comments"),
]
_words = st.sampled_from(
    ["a", "é", "<a@b.example>", "x" * 899, "y" * 1200, "Jörg", "=?utf-8?q?x?=", ","]
)
_values = st.lists(_words, min_size=1, max_size=4).map(" ".join) | line


@given(
    st.lists(st.tuples(st.sampled_from(HEADER_NAMES), _values), max_size=3),
    line,
    st.sampled_from(["text/csv", "text/csv; " + "x=" + "y" * 1200, "a/b; n=" + "z" * 480]),
    st.booleans(),
)
def test_what_is_accepted_at_enqueue_can_be_written_by_the_worker(
    headers: list[tuple[str, str]], subject: str, content_type: str, has_variables: bool
) -> None:
    try:
        accepted = draft(
            Message(subject=subject, headers=headers, text="Hello"),
            parts=[part(b"", content_type=content_type)],
            has_variables=has_variables,
        )
    except MessageError:
        return
    content = compose(accepted)
    raw = content.head(to=SHOP, message_id="<a@example.com>") + b"".join(content.tail())
    assert violations(raw, smtputf8=content.needs_smtputf8) == []


def test_a_media_type_that_no_line_can_hold_is_refused_at_enqueue() -> None:
    with pytest.raises(InvalidHeader, match="Content-Type"):
        draft(
            Message(subject=Template.from_string("{{ name }}")),
            parts=[part(b"", content_type="text/csv; x=" + "y" * 1200)],
            has_variables=True,
        )
