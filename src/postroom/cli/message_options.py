"""The message that ``send`` and ``preview`` are asked for, from what a command line can say."""

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
    return typer.Option(*names, help=text, metavar=metavar, rich_help_panel="To whom", **settings)


def _content_option(text: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="What", **settings)


def _delivery_option(text: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="When and how", **settings)


_Texts = list[str] | None
_Text = str | None
_File = Path | None
_Time = datetime | None

To = Annotated[_Texts, _recipient_option("A recipient; repeatable.")]
ToCsv = Annotated[
    _File,
    _recipient_option(
        "A recipient a line; the columns are variables of the template.",
        metavar="FILE",
        exists=True,
        dir_okay=False,
    ),
]
Cc = Annotated[_Texts, _recipient_option("In one mail with --to, which everyone sees.")]
Bcc = Annotated[_Texts, _recipient_option("In that mail too, but nobody sees it.")]
Sender = Annotated[_Text, _recipient_option("The sender, instead of the setting's.", "--from")]
ReplyTo = Annotated[_Texts, _recipient_option("Where answers go; repeatable.")]

Subject = Annotated[str, _content_option("The subject, literally.")]
Text = Annotated[_Text, _content_option("The text, literally.")]
TextFile = Annotated[_File, _content_option("The text; - is standard input.", metavar="FILE")]
Html = Annotated[_Text, _content_option("The HTML, literally; alone, a text is made from it.")]
HtmlFile = Annotated[_File, _content_option("The HTML; - is standard input.", metavar="FILE")]
Template = Annotated[
    _Text, _content_option("NAME.subject.txt, NAME.txt and NAME.html instead.", metavar="NAME")
]
Context = Annotated[_File, _content_option("A JSON file for the templates.", metavar="FILE")]
Locale = Annotated[_Text, _content_option("The templates' language, like de or pt_BR.")]
Attach = Annotated[
    list[Path] | None, _content_option("A file to attach; repeatable.", metavar="FILE")
]
Inline = Annotated[
    list[Path] | None, _content_option("An image that the HTML shows as cid:NAME.", metavar="FILE")
]

IdempotencyKey = Annotated[
    _Text,
    _delivery_option("Sent once, however often this is run with the same key.", metavar="KEY"),
]
LaneChoice = Annotated[
    Lane, _delivery_option("Mail in one lane never waits behind another's.", "--lane")
]
RelayName = Annotated[
    _Text, _delivery_option("A relay or route by its name.", "--relay", metavar="NAME")
]
At = Annotated[
    _Time, _delivery_option("Not before: 2026-01-31T09:30, +2h.", metavar="TIME", parser=parse_time)
]
Expires = Annotated[_Time, _delivery_option("Not after.", metavar="TIME", parser=parse_time)]
Tag = Annotated[_Texts, _delivery_option("To find it by; repeatable.")]
Wait = Annotated[
    bool, _delivery_option("Deliver it from here, and show what became of it.", "--wait")
]
Timeout = Annotated[
    timedelta | None,
    _delivery_option("How long --wait waits; a minute.", metavar="DURATION", parser=parse_duration),
]


#: Where a file is asked for, this is standard input.
_STANDARD_INPUT = Path("-")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageOptions:
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


def message_of(wish: MessageOptions, settings: Settings) -> Message:
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
        "scheduled_at": wish.at,
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


def _refuse_both(wish: MessageOptions) -> None:
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
