"""Whose fault an error of the database is: that of what was read or written, or the database's.

The first is one row's, and all others go on. The second is everybody's, and passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

#: Classes of SQLSTATE that are about values: cardinality, data, integrity, check option, limits,
#: and what triggers raise (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_CLASSES = {"21", "22", "23", "44", "54", "P0"}

#: A row whose pages are damaged.
_STATES = {"XX001", "XX002"}

#: SQLite has one class for most of its errors; so have both drivers for what they cannot write.
_TEXTS = (
    "decode to utf-8",
    "malformed json",
    "json cannot hold",
    "too big",
    "binding parameter",
    "cannot adapt",
    "datatype mismatch",
)

#: What another program does to a machine, and not a value to a row.
_NOT_VALUES = (OSError, MemoryError)


def is_data_error(error: BaseException) -> bool:
    """Return whether ``error`` comes of a value, so that the same without it would succeed."""
    if isinstance(error, DBAPIError):
        return not error.connection_invalidated and _is_of_data(error)
    if isinstance(error, StatementError):  # a value that its column's type refuses
        return error.orig is not None and is_data_error(error.orig)
    if isinstance(error, SQLAlchemyError):
        return False
    return isinstance(error, Exception) and not isinstance(error, _NOT_VALUES)


def _is_of_data(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state[:2] in _CLASSES or state in _STATES
    text = str(error.orig).lower()
    return type(error).__name__ in {"DataError", "IntegrityError"} or any(
        one in text for one in _TEXTS
    )


def reason_of(error: BaseException) -> str:
    """Return the first line of what ``error`` says, in ASCII: it may quote what is wrong."""
    said = getattr(error, "orig", None) or error
    line = str(said).strip().partition("\n")[0]
    text = f"{type(said).__name__}: {line}" if line else type(said).__name__
    return text.encode("ascii", "backslashreplace").decode().replace("\0", "\\x00")[:300]


T = TypeVar("T")
R = TypeVar("R")


def piecewise(
    connection: Connection,
    items: Sequence[T],
    work: Callable[[Sequence[T]], R],
    refused: Callable[[T, Exception], None],
) -> list[R]:
    """Do ``work`` on all of ``items``, in their order, and leave out the ones that make it fail.

    Args:
        connection: One in a transaction; each try is a savepoint of it.
        items: What is to be worked on. Where all of them fail, halves of them are tried.
        work: Works on some of them.
        refused: Is called with each one that fails alone, and its error.

    Returns what ``work`` returned, for each portion that succeeded.

    Raises:
        Exception: an error of ``work`` that is no matter of data.
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
