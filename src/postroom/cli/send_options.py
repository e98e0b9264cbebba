"""The options of ``send``, in the three groups its help shows."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from postroom.cli.options import duration, moment
from postroom.values.states import Lane


def _who(text: str, *names: str, metavar: str = "ADDRESS", **settings: Any) -> Any:
    return typer.Option(*names, help=text, metavar=metavar, rich_help_panel="To whom", **settings)


def _what(text: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="What", **settings)


def _how(text: str, *names: str, **settings: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="When and how", **settings)


_Texts = list[str] | None
_Text = str | None
_File = Path | None
_Time = datetime | None

To = Annotated[_Texts, _who("A recipient; repeatable.")]
ToCsv = Annotated[
    _File,
    _who(
        "A recipient a line; the columns are variables of the template.",
        metavar="FILE",
        exists=True,
        dir_okay=False,
    ),
]
Cc = Annotated[_Texts, _who("In one mail with --to, which everyone sees.")]
Bcc = Annotated[_Texts, _who("In that mail too, but nobody sees it.")]
Sender = Annotated[_Text, _who("The sender, instead of the setting's.", "--from")]
ReplyTo = Annotated[_Texts, _who("Where answers go; repeatable.")]

Subject = Annotated[str, _what("The subject, literally.")]
Text = Annotated[_Text, _what("The text, literally.")]
TextFile = Annotated[_File, _what("The text; - is standard input.", metavar="FILE")]
Html = Annotated[_Text, _what("The HTML, literally; alone, a text is made from it.")]
HtmlFile = Annotated[_File, _what("The HTML; - is standard input.", metavar="FILE")]
Template = Annotated[
    _Text, _what("NAME.subject.txt, NAME.txt and NAME.html instead.", metavar="NAME")
]
Context = Annotated[_File, _what("A JSON file for the templates.", metavar="FILE")]
Locale = Annotated[_Text, _what("The templates' language, like de or pt_BR.")]
Attach = Annotated[list[Path] | None, _what("A file to attach; repeatable.", metavar="FILE")]
Inline = Annotated[
    list[Path] | None, _what("An image that the HTML shows as cid:NAME.", metavar="FILE")
]

Key = Annotated[_Text, _how("Sent once, however often this is run with the same key.")]
LaneChoice = Annotated[Lane, _how("Mail in one lane never waits behind another's.", "--lane")]
RelayName = Annotated[_Text, _how("A relay or route by its name.", "--relay", metavar="NAME")]
At = Annotated[_Time, _how("Not before: 2026-01-31T09:30, +2h.", metavar="TIME", parser=moment)]
Expires = Annotated[_Time, _how("Not after.", metavar="TIME", parser=moment)]
Tag = Annotated[_Texts, _how("To find it by; repeatable.")]
Wait = Annotated[bool, _how("Deliver it from here, and show what became of it.", "--wait")]
Timeout = Annotated[
    timedelta | None,
    _how("How long --wait waits; a minute.", metavar="DURATION", parser=duration),
]
