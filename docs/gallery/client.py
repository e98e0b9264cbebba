"""A mail as a mail reader shows it, as a page of HTML."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from zoneinfo import ZoneInfo

import jinja2

from docs.gallery.examples import FOLDER, octets

#: The reader's own.
_ZONE = ZoneInfo("Europe/Berlin")

_FRAME = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """An attachment in the list below the head."""

    name: str
    kind: str
    size: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a mail reader takes from an invitation."""

    title: str
    place: str
    organizer: str
    starts: datetime
    ends: datetime


def page_of(mail: EmailMessage) -> str:
    """Return the page that shows a mail, with nothing left to load."""
    return _FRAME.get_template("frame.html").render(
        mail=mail,
        sender=mail["From"].addresses[0],
        date=mail["Date"].datetime.astimezone(_ZONE),
        chips=[_chip(part) for part in _attachments(mail)],
        event=_event(mail),
        html=_html(mail),
        text=_text(mail),
        answered=_answered(mail),
    )


def _text(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    return "" if body is None else str(body.get_content())


def _leaves(mail: EmailMessage) -> Iterator[EmailMessage]:
    return (part for part in mail.walk() if not part.is_multipart())


def _attachments(mail: EmailMessage) -> Iterator[EmailMessage]:
    return (part for part in _leaves(mail) if part.get_content_disposition() == "attachment")


def _chip(part: EmailMessage) -> Chip:
    name = str(part.get_filename())
    size_bytes = len(octets(part))
    size = f"{size_bytes} B" if size_bytes < 1000 else f"{size_bytes / 1000:.1f} kB"
    return Chip(name=name, kind=Path(name).suffix.lstrip(".").upper(), size=size)


def _html(mail: EmailMessage) -> str | None:
    """Return the HTML with the images it shows inside it."""
    body = mail.get_body(("html",))
    if body is None:
        return None
    page = str(body.get_content())
    for part in _leaves(mail):
        if content_id := part["Content-ID"]:
            page = page.replace(f"cid:{content_id.strip('<>')}", _data_url(part))
    return page


def _data_url(part: EmailMessage) -> str:
    encoded = base64.b64encode(octets(part)).decode("ascii")
    return f"data:{part.get_content_type()};base64,{encoded}"


def _event(mail: EmailMessage) -> Event | None:
    invitations = [part for part in _leaves(mail) if part.get_content_type() == "text/calendar"]
    if not invitations:
        return None
    fields = dict(_calendar_fields(invitations[0].get_content().splitlines()))
    return Event(
        title=fields["SUMMARY"],
        place=fields["LOCATION"],
        organizer=fields["ORGANIZER"],
        starts=_instant(fields["DTSTART"]).astimezone(_ZONE),
        ends=_instant(fields["DTEND"]).astimezone(_ZONE),
    )


def _calendar_fields(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        head, _, value = line.partition(":")
        name, _, parameters = head.partition(";")
        common_name = re.search(r"CN=([^;]+)", parameters)
        yield name, common_name[1] if common_name else value.replace("\\,", ",")


def _instant(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%S%z")


def _answered(mail: EmailMessage) -> EmailMessage | None:
    """Return the mail that this one answers, which the reader's mailbox holds."""
    for file in (FOLDER / "files").glob("*.eml"):
        other = message_from_bytes(file.read_bytes(), policy=default)
        if other["Message-ID"] == mail["In-Reply-To"]:
            return other
    return None
