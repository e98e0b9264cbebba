"""Text for errors, logs and terminals, made safe whoever wrote what it quotes.

Nothing here raises because of what it is given, but ``check_line``, which refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from postroom.errors import InvalidHeader, PostroomError

#: Characters that no header, command or log line may contain: control characters (C0, DEL, C1),
#: line and paragraph separators, and lone surrogates.
UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

#: The most characters of one line, unless a caller says otherwise.
MAX_LINE = 10_000


def shorten_repr(value: object) -> str:
    """Return ``value`` for an error text: escaped, and shortened to about 100 characters.

    Args:
        value: Any object, also one whose ``repr`` fails.
    """
    try:
        text = repr(value)
    except Exception:  # the error that is being written is more useful
        return f"a {type(value).__name__} whose repr fails"
    return text if len(text) <= 100 else f"{text[:80]}… ({len(text)} characters)"


def and_more(texts: Sequence[str], most: int, *, count: int = 0, separator: str = "; ") -> str:
    """Return the first ``most`` of ``texts``, joined, and how many more there are.

    Args:
        texts: The texts, or the first of them.
        most: How many to show.
        count: How many there are in all, if ``texts`` are only the first.
        separator: What to write between two of them.
    """
    shown = list(texts[:most])
    if (more := max(count, len(texts)) - len(shown)) > 0:
        shown.append(f"and {more:,} more")
    return separator.join(shown)


def safe_for_terminal(text: str) -> str:
    """Return ``text`` without characters that control a terminal.

    Replies and subjects come from strangers. Line ends stay; every other character that is not
    printable becomes U+FFFD.

    Args:
        text: Any text.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def check_line(
    value: str,
    what: str,
    error: type[PostroomError] = InvalidHeader,
    *,
    longest: int = MAX_LINE,
) -> str:
    """Return ``value`` if it is one line of printable text, as a header needs it.

    Args:
        value: The value to check.
        what: What an error calls it.
        error: The class of the error.
        longest: The largest number of characters.

    Raises:
        error: It is not a ``str``, has more than ``longest`` characters, or contains CR, LF, NUL,
            another control character (C0, DEL, C1), a line or paragraph separator, or a lone
            surrogate.
    """
    if not isinstance(value, str):
        raise error(f"{what} must be text, not {shorten_repr(value)}")
    if len(value) > longest:
        raise error(
            f"{what} must have at most {longest:,} characters, not {len(value):,}: "
            f"{shorten_repr(value)}"
        )
    if value.isascii() and value.isprintable():
        return value
    if found := UNWRITABLE.search(value):
        character = f"U+{ord(found[0]):04X}"
        raise error(
            f"expected {what} to be one line of printable text, got: {shorten_repr(value)} "
            f"({character} at position {found.start()}; remove it)"
        )
    return value
