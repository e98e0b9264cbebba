"""Work on many things of which the database may refuse some: those stand alone in the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import Connection

from postroom.storage.data_errors import is_data_error

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
