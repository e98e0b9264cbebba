"""What the fields of a configuration may hold, checked where they are assigned.

A setting goes into commands, file names, log lines and sockets: text is one line of printable text,
numbers are finite and of a size that clocks and sockets take. Each check returns the value.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypeVar

from postroom.errors import ConfigError
from postroom.text import check_line, shorten_repr

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")

#: Ten years in seconds: beyond it some clocks overflow, and nobody waits.
LONGEST_S = 10 * 365 * 86_400.0
_LARGEST = 2**31 - 1


def text(value: Any, what: str, *, longest: int = 255, is_empty_fine: bool = False) -> str:
    """Return ``value`` where it is one line of printable text.

    Raises:
        ConfigError: it is not, or it is empty where that is not fine.
    """
    checked = check_line(value, what, error=ConfigError, longest=longest)
    if not checked and not is_empty_fine:
        raise ConfigError(f"{what} must not be empty; leave it out instead")
    return checked


def word(value: Any, what: str, *, is_empty_fine: bool = False) -> str:
    """Return ``value`` where it is ASCII without spaces, as host names are.

    Raises:
        ConfigError: it is not.
    """
    checked = text(value, what, is_empty_fine=is_empty_fine)
    if not checked.isascii() or " " in checked:
        raise ConfigError(f"{what} must be ASCII without spaces, not {shorten_repr(checked)}")
    return checked


def count(value: Any, what: str, *, least: int = 1, most: int = _LARGEST) -> int:
    """Return ``value`` where it is a whole number from ``least`` to ``most``.

    Raises:
        ConfigError: it is not.
    """
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or not least <= value <= most:
        raise ConfigError(
            f"expected {what} to be a whole number from {least} to {most}, got: "
            f"{shorten_repr(value)}"
        )
    return int(value)


def seconds(value: Any, what: str) -> float:
    """Return ``value`` where it is a time that can be waited for, above 0 seconds.

    Raises:
        ConfigError: it is not.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= LONGEST_S:
        raise ConfigError(
            f"expected {what} to be positive, a number of seconds up to {LONGEST_S:.0f}, "
            f"got: {shorten_repr(value)}"
        )
    number: float = value
    return number


def member(kind: type[E], value: Any, what: str) -> E:
    """Return the member of ``kind`` that ``value`` is or names.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(value, str) and value in list(kind):
        return kind(value)
    raise ConfigError(f"{what} must be one of {', '.join(kind)}, not {shorten_repr(value)}")


def instance(kind: type[T], value: Any, what: str) -> T:
    """Return ``value`` where it is a ``kind``.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(value, kind):
        raise ConfigError(f"{what} must be a {kind.__name__}, not {shorten_repr(value)}")
    return value
