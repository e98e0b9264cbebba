"""Checks for the values of a configuration; each returns the value or raises ``ConfigError``.

Settings end up in commands, file names, log lines and sockets. So text is one line of printable
characters, and numbers are finite and small enough for clocks and sockets.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

from postroom.errors import ConfigError
from postroom.text import check_line, shorten_repr

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")

#: Ten years: with more than that, some clocks overflow.
MAX_SECONDS = 10 * 365 * 86_400.0
_MAX_COUNT = 2**31 - 1


def text(value: Any, what: str, *, longest: int = 255, is_empty_fine: bool = False) -> str:
    """Return ``value`` if it is one line of printable text.

    Args:
        value: The value to check.
        what: What an error calls it.
        longest: The largest number of characters.
        is_empty_fine: Whether it may be empty.

    Raises:
        ConfigError: It is not text, too long, empty, or contains a control character.
    """
    checked = check_line(value, what, error=ConfigError, longest=longest)
    if not checked and not is_empty_fine:
        raise ConfigError(f"{what} must not be empty; leave it out instead")
    return checked


def word(value: Any, what: str, *, is_empty_fine: bool = False) -> str:
    """Return ``value`` if it is ASCII without spaces, as host names are.

    Args:
        value: The value to check.
        what: What an error calls it.
        is_empty_fine: Whether it may be empty.

    Raises:
        ConfigError: It is not.
    """
    checked = text(value, what, is_empty_fine=is_empty_fine)
    if not checked.isascii() or " " in checked:
        raise ConfigError(f"{what} must be ASCII without spaces, not {shorten_repr(checked)}")
    return checked


def count(value: Any, what: str, *, least: int = 1, most: int = _MAX_COUNT) -> int:
    """Return ``value`` if it is a whole number from ``least`` to ``most``.

    Args:
        value: The value to check.
        what: What an error calls it.
        least: The smallest number.
        most: The largest number.

    Raises:
        ConfigError: It is not.
    """
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not least <= value <= most:
        raise ConfigError(
            f"{what} must be a whole number from {least} to {most}, not {shorten_repr(value)}"
        )
    return int(value)


def seconds(value: Any, what: str) -> float:
    """Return ``value`` if it is a number of seconds above 0 and up to ten years.

    Args:
        value: The value to check.
        what: What an error calls it.

    Raises:
        ConfigError: It is not.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= MAX_SECONDS:
        raise ConfigError(
            f"{what} must be a positive number of seconds, up to {MAX_SECONDS:.0f}, not "
            f"{shorten_repr(value)}"
        )
    number: float = value
    return number


def member(enum: type[E], value: Any, what: str) -> E:
    """Return the member of ``enum`` that ``value`` is or names.

    Args:
        enum: The enumeration.
        value: A member or its value.
        what: What an error calls it.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(value, str) and value in list(enum):
        return enum(value)
    raise ConfigError(f"{what} must be one of {', '.join(enum)}, not {shorten_repr(value)}")


def instance(kind: type[T], value: Any, what: str) -> T:
    """Return ``value`` if it is an instance of ``kind``.

    Args:
        kind: The class.
        value: The value to check.
        what: What an error calls it.

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(value, kind):
        raise ConfigError(f"{what} must be a {kind.__name__}, not {shorten_repr(value)}")
    return value
