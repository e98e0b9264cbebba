"""Options and arguments that several commands share, and how their texts are read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from postroom.duration import parse_duration_s

MessageId = Annotated[int, typer.Argument(help="The message's number.", metavar="ID", min=1)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Addresses = Annotated[
    list[str] | None,
    typer.Option("--to", help="Only this recipient; repeatable.", metavar="ADDRESS"),
]


def parse_duration(text: str) -> timedelta:
    """Read ``90s``, ``15m``, ``2h``, ``30d`` or ``4w``."""
    try:
        return timedelta(seconds=parse_duration_s(text))
    except ValueError as error:
        raise typer.BadParameter(f"must be {error}, not {text!r}") from None
    except OverflowError:
        raise typer.BadParameter(f"must be a duration of years at most, not {text!r}") from None


def parse_time(text: str) -> datetime:
    """Read a time like ``2026-01-31T09:30`` (this machine's zone unless it names one) or ``+2h``.

    A time that begins with ``+`` counts from now.
    """
    try:
        if text.startswith("+"):
            return datetime.now(UTC) + parse_duration(text[1:])
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"must be a time such as 2026-01-31T09:30 or +2h, not {text!r}"
        ) from None
