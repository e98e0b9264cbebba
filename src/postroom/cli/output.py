"""What a command prints: tables for people, JSON for programs, errors on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from postroom.states import RecipientState
from postroom.text import safe_for_terminal

#: Wide enough that no line is ever broken where a program reads it.
_PIPED_WIDTH = 1000

_WORDY = frozenset({"recipient", "reply", "subject", "why"})

_STYLES: Mapping[str, str] = {
    RecipientState.ACCEPTED: "green",
    RecipientState.REJECTED: "red",
    RecipientState.IN_DOUBT: "magenta",
    RecipientState.DEFERRED: "yellow",
    RecipientState.SENDING: "cyan",
    RecipientState.EXPIRED: "red",
    RecipientState.SUPPRESSED: "bright_black",
    RecipientState.CANCELLED: "bright_black",
}


def console(*, stderr: bool = False) -> Console:
    """Return where to print now: the streams may be replaced between two commands."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream,
        width=None if stream.isatty() else _PIPED_WIDTH,
        markup=False,
        highlight=False,
        emoji=False,
    )


def echo(what: str | RenderableType = "") -> None:
    """Print a line, or something laid out, for people."""
    console().print(safe_for_terminal(what) if isinstance(what, str) else what)


def print_error(text: str) -> None:
    """Print an error in two lines at most; the second, where there is one, says what to do."""
    lines = text.splitlines()
    if len(lines) > 2:
        lines = ["; ".join(lines)]
    first, *rest = lines or [""]
    screen = console(stderr=True)
    screen.print(
        Text.assemble(("postroom: ", "bold red"), safe_for_terminal(first)), soft_wrap=True
    )
    for line in rest:
        screen.print(safe_for_terminal(line), soft_wrap=True)


def grid(columns: Sequence[str], rows: Iterable[Sequence[object]] = ()) -> Table:
    """Return ``rows`` under ``columns``; a column named with a leading ``>`` is set right.

    On a narrow screen only columns of words (`_WORDY`) are broken into lines.
    """
    lines = Table(box=None, pad_edge=False, header_style="bold")
    for marked in columns:
        name = marked.lstrip(">")
        lines.add_column(
            name,
            justify="right" if marked.startswith(">") else "left",
            overflow="fold",
            no_wrap=name not in _WORDY,
        )
    for row in rows:
        lines.add_row(*map(cell, row))
    return lines


def pairs(values: Mapping[str, object]) -> Table:
    """Return names and values in two columns, leaving out what is empty."""
    lines = Table(box=None, show_header=False, pad_edge=False)
    lines.add_column(style="bold", no_wrap=True)
    lines.add_column(overflow="fold")
    for name, value in values.items():
        if value not in (None, "", ()):
            lines.add_row(name, cell(value))
    return lines


def cell(value: object) -> Text:
    """Return a value as it looks in a table."""
    if value is None:
        return Text("-", style="bright_black")
    if isinstance(value, Text):
        return value
    if isinstance(value, datetime):
        return Text(iso_time(value), style="bright_black")
    if isinstance(value, RecipientState):
        return Text(value.value, style=_STYLES.get(value, ""))
    if isinstance(value, int) and not isinstance(value, bool):
        return Text(f"{value:,}")
    return Text(safe_for_terminal(str(value).strip()))


def iso_time(when: datetime) -> str:
    """Return a time as ``2026-01-31 09:30:00Z``."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def short_time(when: datetime) -> str:
    """Return a time of the last months as ``01-31 09:30:00``, UTC as all of them."""
    return when.astimezone(UTC).strftime("%m-%d %H:%M:%S")


def print_json(value: object) -> None:
    """Print ``value`` as JSON: dataclasses as objects, times in ISO 8601."""
    text = json.dumps(to_plain(value), indent=2, ensure_ascii=False)
    # JSON itself escapes ESC and its like, but no C1 control, DEL, or change of direction.
    shown = "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in text)
    sys.stdout.write(shown + "\n")


def write_text(text: str) -> None:
    """Print ``text`` as it is; cleaned where a terminal would obey it.

    Args:
        text: What is printed, line ends included.
    """
    sys.stdout.write(safe_for_terminal(text.expandtabs()) if sys.stdout.isatty() else text)


def write_bytes(chunks: Iterable[bytes]) -> None:
    """Print ``chunks`` byte by byte; as cleaned text where a terminal would obey them.

    Args:
        chunks: What is printed, in pieces.
    """
    if sys.stdout.isatty():
        text = b"".join(chunks).decode("utf-8", "replace")
        write_text(text.replace("\r\n", "\n"))
    else:
        sys.stdout.buffer.writelines(chunks)


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1].replace("\x7f", "\\u007f")


def to_plain(value: Any) -> Any:
    """Return ``value`` made of what JSON knows."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_plain(item) for name, item in value.items()}
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, (str, bool, int, float)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, Iterable):
        return [to_plain(item) for item in value]
    return str(value)
