"""Options of ``send`` that describe the message, and the message made from them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Self

import typer

from postroom.cli.options import parse_duration, parse_time
from postroom.config.settings import Settings
from postroom.errors import TemplateError
from postroom.message.attachment import Attachment
from postroom.message.message import Message
from postroom.states import Lane


def _recipient_option(text: str, *names: str, metavar: str = "ADDRESS", **settings: Any) -> Any:
    return typer.Option(
        *names, help=text, metavar=metavar, rich_help_panel="Recipients", **settings
    )


def _content_option(text: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Content", **settings)


def _delivery_option(text: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Delivery", **settings)


_Texts = list[str] | None
_Text = str | None
_File = Path | None
_Time = datetime | None

#: As the name of a file, this means standard input.
_STANDARD_INPUT = Path("-")

To = Annotated[_Texts, _recipient_option("A recipient; repeatable.")]
ToCsv = Annotated[
    _File,
    _recipient_option(
        "A CSV file: one recipient in each line; its columns are template variables.",
        metavar="FILE",
        exists=True,
        dir_okay=False,
    ),
]
Cc = Annotated[_Texts, _recipient_option("A visible copy; makes it one mail to all.")]
Bcc = Annotated[_Texts, _recipient_option("A hidden copy of that mail.")]
Sender = Annotated[_Text, _recipient_option("The sender; default: the setting.", "--from")]
ReplyTo = Annotated[_Texts, _recipient_option("Address for replies; repeatable.")]

Subject = Annotated[str, _content_option("The subject.")]
Text = Annotated[_Text, _content_option("The text.")]
TextFile = Annotated[_File, _content_option("The text; - is standard input.", metavar="FILE")]
Html = Annotated[_Text, _content_option("The HTML; a text is made from it if none is given.")]
HtmlFile = Annotated[_File, _content_option("The HTML; - is standard input.", metavar="FILE")]
Template = Annotated[
    _Text, _content_option("Use NAME.subject.txt, NAME.txt and NAME.html.", metavar="NAME")
]
Context = Annotated[
    _File, _content_option("A JSON file with the templates' context.", metavar="FILE")
]
Locale = Annotated[_Text, _content_option("The templates' language, like de or pt_BR.")]
Attach = Annotated[
    list[Path] | None, _content_option("A file to attach; repeatable.", metavar="FILE")
]
Inline = Annotated[
    list[Path] | None, _content_option("An image that the HTML shows as cid:NAME.", metavar="FILE")
]

IdempotencyKey = Annotated[
    _Text,
    _delivery_option("One message, however often this is run with the same key.", metavar="KEY"),
]
LaneChoice = Annotated[
    Lane, _delivery_option("Mail in one lane never waits for mail in another.", "--lane")
]
RelayName = Annotated[
    _Text, _delivery_option("Name of a relay or route.", "--relay", metavar="NAME")
]
At = Annotated[
    _Time,
    _delivery_option(
        "Send at this time or later: 2026-01-31T09:30, +2h.", metavar="TIME", parser=parse_time
    ),
]
Expires = Annotated[
    _Time, _delivery_option("Do not send after this time.", metavar="TIME", parser=parse_time)
]
Tag = Annotated[_Texts, _delivery_option("A tag to find it by; repeatable.")]
Wait = Annotated[bool, _delivery_option("Deliver it now and show the outcome.", "--wait")]
Timeout = Annotated[
    timedelta | None,
    _delivery_option(
        "How long --wait waits; default: a minute.", metavar="DURATION", parser=parse_duration
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageOptions:
    """What to send and how, but not to whom; each field is the option of ``send`` with its name."""

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
        """Return the options among a command's parameters, which have the same names."""
        return cls(**{field.name: options[field.name] for field in fields(cls)})


def message_of(options: MessageOptions, settings: Settings) -> Message:
    """Return the message; nothing is stored yet.

    Args:
        options: The command's options.
        settings: For ``on_doubt``.

    Raises:
        MessageError: a part of it cannot be sent.
        TemplateError: the JSON file for the templates is wrong.
    """
    attached = [Attachment.from_path(path) for path in options.attach or ()]
    inline = [Attachment.inline(path) for path in options.inline or ()]
    envelope: dict[str, Any] = {
        "sender": options.sender,
        "reply_to": options.reply_to or (),
        "attachments": [*attached, *inline],
        "lane": options.lane,
        "relay": options.relay,
        "on_doubt": settings.on_doubt,
        "scheduled_at": options.at,
        "expires_at": options.expires,
        "tags": options.tag or (),
    }
    if options.template is not None:
        _check_template_alone(options)
        return templated(options.template, context_of(options.context), options.locale, **envelope)
    text = _either(options.text, options.text_file, "text")
    html = _either(options.html, options.html_file, "html")
    if not any((options.subject, text, html, attached)):
        raise typer.BadParameter("say what to send: --text, --html, --template, or --attach")
    return Message(subject=options.subject, text=text, html=html, **envelope)


def templated(name: str, context: Mapping[str, Any], locale: str | None, **fields: Any) -> Message:
    """Return the message whose subject, text and HTML are made by the templates called ``name``."""
    return Message.from_templates(name, locale=locale, context=context, **fields)


def context_of(path: Path | None) -> Mapping[str, Any]:
    """Return the templates' context from a JSON file; empty without a file.

    Raises:
        TemplateError: the file is not a JSON object.
    """
    if path is None:
        return {}
    try:
        parsed = json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise TemplateError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(parsed, dict):
        raise TemplateError(f"{path} must be a JSON object, not {type(parsed).__name__}")
    return parsed


def _check_template_alone(options: MessageOptions) -> None:
    if any((options.subject, options.text, options.text_file, options.html, options.html_file)):
        raise typer.BadParameter(
            "--template cannot be combined with --subject, --text or --html: "
            "the templates make all three"
        )


def _either(literal: str | None, file: Path | None, what: str) -> str | None:
    if literal is not None and file is not None:
        raise typer.BadParameter(f"use either --{what} or --{what}-file, not both")
    return literal if file is None else _read(file)


def _read(path: Path) -> str:
    try:
        return sys.stdin.read() if path == _STANDARD_INPUT else path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{path} is not UTF-8") from None
