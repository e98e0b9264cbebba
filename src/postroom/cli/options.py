"""Options and arguments that several commands share, and the parsers of their values."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from postroom.text import shorten_repr

MessageId = Annotated[int, typer.Argument(help="The message's number.", metavar="ID", min=1)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Addresses = Annotated[
    list[str] | None,
    typer.Option("--to", help="Only this recipient; repeatable.", metavar="ADDRESS"),
]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)", re.IGNORECASE)
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_duration(text: str) -> timedelta:
    """Return the duration that is written like ``90s``, ``15m``, ``2h``, ``30d`` or ``4w``."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise typer.BadParameter(
            f"{shorten_repr(text)} is not a duration; write it like 15m, 2h or 30d"
        )
    try:
        return timedelta(**{_UNITS[found[2].lower()]: float(found[1])})
    except OverflowError:
        raise typer.BadParameter(f"{shorten_repr(text)} is too long for a duration") from None


def parse_time(text: str) -> datetime:
    """Return the time that is written like ``2026-01-31T09:30`` or ``+2h``.

    Without a time zone it is in this machine's. A time that begins with ``+`` counts from now.
    """
    if text.startswith("+"):
        return datetime.now(UTC) + parse_duration(text[1:])
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"{shorten_repr(text)} is not a time; write it like 2026-01-31T09:30 or +2h"
        ) from None
