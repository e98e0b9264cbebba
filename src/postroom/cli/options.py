"""Options and arguments that several commands share, and how their texts are read."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

MessageId = Annotated[int, typer.Argument(help="The message's number.", metavar="ID", min=1)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Addresses = Annotated[
    list[str] | None,
    typer.Option("--to", help="Only this recipient; repeatable.", metavar="ADDRESS"),
]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)", re.IGNORECASE)
_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_duration(text: str) -> timedelta:
    """Read ``90s``, ``15m``, ``2h``, ``30d`` or ``4w``."""
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise typer.BadParameter(f"expected a duration like 15m, 2h or 30d, got: {text}")
    try:
        return timedelta(**{_UNITS[found[2].lower()]: float(found[1])})
    except OverflowError:
        raise typer.BadParameter(f"expected a duration of years at most, got: {text}") from None


def parse_time(text: str) -> datetime:
    """Read a time like ``2026-01-31T09:30`` (this machine's zone unless it names one) or ``+2h``.

    A time that begins with ``+`` counts from now.
    """
    if text.startswith("+"):
        return datetime.now(UTC) + parse_duration(text[1:])
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"expected a time like 2026-01-31T09:30 or +2h, got: {text}"
        ) from None
