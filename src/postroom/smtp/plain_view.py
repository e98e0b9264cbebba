"""A mail as people read it in a terminal: its envelope, the headers that matter, its text."""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_string
from email.message import EmailMessage
from email.policy import SMTPUTF8

from postroom.values.envelope import Envelope

_HEADERS = ("From", "To", "Cc", "Reply-To", "Subject")
_WIDTH = 78


def plain_view(envelope: Envelope, content: bytes) -> str:
    """Return ``content`` in words; nothing in it can steer a terminal."""
    message = message_from_string(content.decode("utf-8", "replace"), policy=SMTPUTF8)
    assert isinstance(message, EmailMessage)
    return _clean("\n".join([*_lines(envelope, message), "", ""]))


def _lines(envelope: Envelope, message: EmailMessage) -> Iterator[str]:
    whom = f"-- mail to {', '.join(envelope.recipients)} "
    yield whom.ljust(_WIDTH, "-")
    for name in _HEADERS:
        if name in message:
            yield f"{name}: {message[name]}"
    body = message.get_body(("plain", "html"))
    if body is not None:
        yield ""
        yield body.get_content().replace("\r\n", "\n").rstrip("\n")
    attached = [part for part in message.walk() if part.get_filename()]
    if attached:
        yield ""
        yield from map(_attachment, attached)


def _attachment(part: EmailMessage) -> str:
    content = part.get_payload(decode=True)
    size = f", {len(content):,} bytes" if isinstance(content, bytes) else ""
    return f"[{part.get_filename()}: {part.get_content_type()}{size}]"


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
