"""Data errors: whether an error comes from one value, or from the database itself.

A data error concerns one row, and all others can go on. Any other error concerns everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

T = TypeVar("T")
R = TypeVar("R")

#: Classes of SQLSTATE that are about values: cardinality, data, integrity, check option, limits,
#: and what triggers raise (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_CLASSES = {"21", "22", "23", "44", "54", "P0"}

#: A row whose pages are damaged.
_STATES = {"XX001", "XX002"}

#: SQLite has one class for most of its errors, and both drivers have one for values that they
#: cannot write: there only the text tells.
_TEXTS = (
    "decode to utf-8",
    "malformed json",
    "json cannot hold",
    "too big",
    "binding parameter",
    "cannot adapt",
    "datatype mismatch",
)

#: Not about values: other programs cause these.
_NOT_VALUES = (OSError, MemoryError)


def is_data_error(error: BaseException) -> bool:
    """Return whether ``error`` is about a value, so that the same work without it would succeed."""
    if isinstance(error, DBAPIError):
        return not error.connection_invalidated and _is_about_a_value(error)
    if isinstance(error, StatementError):  # a value that its column's type refuses
        return error.orig is not None and is_data_error(error.orig)
    if isinstance(error, SQLAlchemyError):
        return False
    return isinstance(error, Exception) and not isinstance(error, _NOT_VALUES)


def _is_about_a_value(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state[:2] in _CLASSES or state in _STATES
    text = str(error.orig).lower()
    return type(error).__name__ in {"DataError", "IntegrityError"} or any(
        one in text for one in _TEXTS
    )


def reason_of(error: BaseException) -> str:
    """Return the first line of ``error``'s text, in ASCII because it may quote the wrong value."""
    cause = getattr(error, "orig", None) or error
    line = str(cause).strip().partition("\n")[0]
    text = f"{type(cause).__name__}: {line}" if line else type(cause).__name__
    return text.encode("ascii", "backslashreplace").decode().replace("\0", "\\x00")[:300]


def piecewise(
    connection: Connection,
    items: Sequence[T],
    work: Callable[[Sequence[T]], R],
    refused: Callable[[T, Exception], None],
) -> list[R]:
    """Run ``work`` on all of ``items``, in order, and leave out the items that make it fail.

    If all of them together fail, halves are tried. Returns what ``work`` returned, for each part
    that succeeded.

    Args:
        connection: A connection in a transaction; each attempt is a savepoint of it.
        items: What to work on.
        work: Called with a part of ``items``.
        refused: Called with each item that fails alone, and its error.

    Raises:
        Exception: an error of ``work`` that is not a data error.
    """
    if not items:
        return []
    try:
        with connection.begin_nested():
            return [work(items)]
    except Exception as error:
        if not is_data_error(error):
            raise
        if len(items) == 1:
            refused(items[0], error)
            return []
    middle = len(items) // 2
    return [
        *piecewise(connection, items[:middle], work, refused),
        *piecewise(connection, items[middle:], work, refused),
    ]
