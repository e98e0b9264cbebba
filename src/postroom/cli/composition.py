"""The message that ``send`` and ``preview`` are asked for, from what a command line can say."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import typer

from postroom.settings import Settings
from postroom.values.attachment import Attachment
from postroom.values.errors import TemplateError
from postroom.values.message import Message
from postroom.values.states import Lane

#: Where a file is asked for, this is standard input.
_STANDARD_INPUT = Path("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be said and how, but not to whom; each field is an option of ``send``."""

    subject: str
    text: str | None
    text_file: Path | None
    html: str | None
    html_file: Path | None
    template: str | None
    context: Path | None
    locale: str | None
    attach: Sequence[Path] | None
    inline: Sequence[Path] | None
    sender: str | None
    reply_to: Sequence[str] | None
    lane: Lane
    relay: str | None
    at: datetime | None
    expires: datetime | None
    tag: Sequence[str] | None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """Take the fields from a command's options, which have the same names."""
        return cls(**{field.name: options[field.name] for field in fields(cls)})


def message_of(wish: Wish, settings: Settings) -> Message:
    """Return the message; nothing is stored yet.

    Raises:
        MessageError: a part of it cannot be sent.
    """
    attached = [Attachment.from_path(path) for path in wish.attach or ()]
    shown = [Attachment.inline(path) for path in wish.inline or ()]
    envelope: dict[str, Any] = {
        "sender": wish.sender,
        "reply_to": wish.reply_to or (),
        "attachments": [*attached, *shown],
        "lane": wish.lane,
        "relay": wish.relay,
        "on_doubt": settings.on_doubt,
        "not_before": wish.at,
        "expires_at": wish.expires,
        "tags": wish.tag or (),
    }
    if wish.template is not None:
        _refuse_both(wish)
        return templated(wish.template, context_of(wish.context), wish.locale, **envelope)
    text = _either(wish.text, wish.text_file, "text")
    html = _either(wish.html, wish.html_file, "html")
    if not any((wish.subject, text, html, attached)):
        raise typer.BadParameter("say what to send: --text, --html, --template, or --attach")
    return Message(subject=wish.subject, text=text, html=html, **envelope)


def templated(name: str, context: Mapping[str, Any], locale: str | None, **fields: Any) -> Message:
    """Return the message that the templates ``name`` make: their subject, text and HTML."""
    return Message.from_templates(name, locale=locale, context=context, **fields)


def context_of(path: Path | None) -> Mapping[str, Any]:
    """Return what a template's names stand for, from a JSON file.

    Raises:
        TemplateError: the file is not a JSON object.
    """
    if path is None:
        return {}
    try:
        found = json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise TemplateError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(found, dict):
        raise TemplateError(f"expected {path} to be a JSON object, got: {type(found).__name__}")
    return found


def _refuse_both(wish: Wish) -> None:
    if any((wish.subject, wish.text, wish.text_file, wish.html, wish.html_file)):
        raise typer.BadParameter(
            "expected --template or --subject, --text and --html, got: both; "
            "the templates make all three"
        )


def _either(literal: str | None, file: Path | None, what: str) -> str | None:
    if literal is not None and file is not None:
        raise typer.BadParameter(f"expected --{what} or --{what}-file, got: both")
    return literal if file is None else _read(file)


def _read(path: Path) -> str:
    try:
        return sys.stdin.read() if path == _STANDARD_INPUT else path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise typer.BadParameter(f"expected {path} to be UTF-8, got: other bytes") from None
