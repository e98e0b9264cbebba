"""Decode columns to show them to people: any stored value can be read, and spoils no other row.

Only for display. A worker reads strictly, and sends nothing that it had to guess.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Dialect,
    Label,
    LargeBinary,
    Text,
    case,
    cast,
    func,
    type_coerce,
)
from sqlalchemy.types import NullType

from postroom.storage.queue.records import LATEST_DUE_S
from postroom.storage.tables import UtcDateTime

E = TypeVar("E", bound=StrEnum)


class UnreadableDate(datetime):
    """A date that Python cannot represent, or that is not a date; shown as "unreadable".

    It compares as the latest date if it is after all dates, and as the earliest otherwise.

    Attributes:
        stored: What is in the database.
    """

    stored: str = ""

    @classmethod
    def of(cls, stored: str, *, is_late: bool = False) -> UnreadableDate:
        """Return the date for what is ``stored``, at the end of time if it ``is_late``."""
        last, first = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
        at = last if is_late else first
        made = cls.combine(at.date(), at.timetz())
        made.stored = stored
        return made

    def isoformat(self, sep: str = "T", timespec: str = "auto") -> str:
        """Return what is stored, marked as unreadable."""
        return f"unreadable: {self.stored!r}"

    def strftime(self, format: str) -> str:
        """Return what is stored, marked as unreadable, whatever the format."""
        return self.isoformat()

    def __str__(self) -> str:
        """Return what is stored, marked as unreadable."""
        return self.isoformat()


def member_or_text(kind: type[E], stored: str) -> E:
    """Return the member of ``kind`` that ``stored`` names, or a value that is not a member.

    The latter compares and shows as its text, and ``value in list(kind)`` is false.
    """
    try:
        return kind(stored)
    except ValueError:
        unknown = str.__new__(kind, stored)
        unknown._name_ = unknown._value_ = stored
        return unknown


#: As `datetime.fromisoformat` reads it, followed by the era.
_DATE = "YYYY-MM-DD HH24:MI:SS.US BC"


def stored(column: Column[Any], dialect: Dialect) -> Label[Any]:
    """Return ``column``, under its name, in a form that every driver can fetch.

    On SQLite texts come as bytes; on PostgreSQL JSON and dates come as texts.
    """
    return type_coerce(_fetchable(column, dialect), NullType()).label(column.name)


def _fetchable(column: Column[Any], dialect: Dialect) -> ColumnElement[Any]:
    if dialect.name == "sqlite":
        return case((func.typeof(column) == "text", cast(column, LargeBinary)), else_=column)
    if isinstance(column.type, JSON):
        return cast(column, Text)
    if isinstance(column.type, UtcDateTime):
        date = func.to_char(func.timezone("UTC", column), _DATE)
        return case((func.isfinite(column), date), else_=cast(column, Text))
    return column


def text_of(value: Any) -> str:
    """Return a text; bytes that are not UTF-8 become replacement characters."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def text_or_none(value: Any) -> str | None:
    """Return a text, or None for NULL."""
    return None if value is None else text_of(value)


def number_of(value: Any) -> int | None:
    """Return a whole number; None if the value is not one."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int | float) else None


def seconds_of(value: Any) -> float | None:
    """Return a finite number; None if the value is not one."""
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def member_of(kind: type[E], value: Any) -> E:
    """Return a member of ``kind``; for an unknown text, that text as a value of the type."""
    return member_or_text(kind, text_of(value))


def date_of(value: Any) -> datetime | None:
    """Return a date, None for NULL, or an `UnreadableDate` if Python cannot represent it."""
    if value is None:
        return None
    text = text_of(value)
    try:
        date = datetime.fromisoformat(text.removesuffix(" AD"))
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        is_late = text == "infinity" or (
            text.partition("-")[0].isdecimal() and len(text) > len(_DATE)
        )
        return UnreadableDate.of(text.removesuffix(" AD"), is_late=is_late)


def sure_date_of(value: Any) -> datetime:
    """Return the date of a column that cannot be NULL."""
    return date_of(value) or UnreadableDate.of("NULL")


def moment_of(epoch_s: Any) -> datetime | None:
    """Return the queue's time, in seconds since the epoch, as a date."""
    if epoch_s is None:
        return None
    if not isinstance(epoch_s, int | float):
        return UnreadableDate.of(text_of(epoch_s), is_late=True)
    try:
        return datetime.fromtimestamp(epoch_s, UTC)
    except (ValueError, OverflowError, OSError):
        if 0 < epoch_s < LATEST_DUE_S:  # the last date there is, rounded up
            return datetime.max.replace(tzinfo=UTC)
        return UnreadableDate.of(str(epoch_s), is_late=not epoch_s < 0)


def tags_of(value: Any) -> tuple[str, ...]:
    """Return a list of texts that is stored as JSON."""
    if value is None:
        return ()
    try:
        found = json.loads(text_of(value)) or ()
        if isinstance(found, list | tuple):
            return tuple(one if isinstance(one, str) else json.dumps(one) for one in found)
    except (ValueError, RecursionError):
        pass
    return (unreadable(value),)


def subject_of(subject: Any, templates: Any) -> str:
    """Return the subject of a message, or the source of its template."""
    if templates is None:
        return text_or_none(subject) or ""
    try:
        template = (json.loads(text_of(templates)) or {}).get("subject")
        if template is None:
            return text_or_none(subject) or ""
        sources: Mapping[str, Any] = template["sources"]
        return str(sources.get(template["entry"], template["entry"]))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return unreadable(templates)


def unreadable(value: Any) -> str:
    """Return a text that shows an unreadable value."""
    return f"unreadable: {text_of(value)[:200]}"
