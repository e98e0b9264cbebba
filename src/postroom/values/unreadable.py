"""What stands in a database and should not: shown as it is, in the type that was expected.

Another program, a later version or a defect can have written it. Nothing that is asked of the
outbox fails because of it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar

E = TypeVar("E", bound=StrEnum)


class UnreadableDate(datetime):
    """A date that Python does not have, or that is none: it says so wherever it is shown.

    It compares as the end of all dates where it comes after them, and else as their beginning.

    Attributes:
        stored: What stands in the database.
    """

    stored: str = ""

    @classmethod
    def of(cls, stored: str, *, is_late: bool = False) -> UnreadableDate:
        """Return the date for what is ``stored``, at the end of time where it ``is_late``."""
        last, first = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
        at = last if is_late else first
        made = cls.combine(at.date(), at.timetz())
        made.stored = stored
        return made

    def isoformat(self, sep: str = "T", timespec: str = "auto") -> str:
        """Return what is stored, marked as unreadable."""
        return f"unreadable: {self.stored!r}"

    def strftime(self, format: str) -> str:
        """Return the same: no part of it can be told."""
        return self.isoformat()

    def __str__(self) -> str:
        """Return the same."""
        return self.isoformat()


def member_or_text(kind: type[E], stored: str) -> E:
    """Return the member of ``kind`` that ``stored`` names; else a value of its type that is none.

    The latter compares and shows as its text, and is no member: ``value in list(kind)`` is false.
    """
    try:
        return kind(stored)
    except ValueError:
        odd = str.__new__(kind, stored)
        odd._name_ = odd._value_ = stored
        return odd
