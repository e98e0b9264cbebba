"""Text that people read: errors, logs and terminals, whoever wrote what is quoted in it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from postroom.errors import InvalidHeader, PostroomError

#: Controls, DEL and C1, the line and paragraph separators, and lone surrogates: what can stand in
#: no header, no command and no log line.
UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


#: What a text of one line may have, where nothing else is said.
MAX_LINE = 10_000


def shorten_repr(value: object) -> str:
    """Return ``value`` as an error text may show it: escaped, and of bounded length; never raise.

    Args:
        value: Whatever an application gave.
    """
    try:
        text = repr(value)
    except Exception:  # what the error is about is more use than this one
        return f"a {type(value).__name__} whose repr fails"
    return text if len(text) <= 100 else f"{text[:80]}… ({len(text)} characters)"


def and_more(texts: Sequence[str], most: int, *, count: int = 0, separator: str = "; ") -> str:
    """Return the first ``most`` of ``texts`` in one text, and how many more there are.

    Args:
        texts: What is named.
        most: How many are shown.
        count: How many there are, where ``texts`` are only the first of them.
        separator: What stands between two of them.
    """
    shown = list(texts[:most])
    if (more := max(count, len(texts)) - len(shown)) > 0:
        shown.append(f"and {more:,} more")
    return separator.join(shown)


def safe_for_terminal(text: str) -> str:
    """Return ``text`` without what could steer a terminal.

    Replies and subjects come from strangers. Line ends stay; every other
    character that is not printable becomes U+FFFD.

    Args:
        text: Whoever's.
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
    """Return ``value`` if it can stand in one header line.

    Raises:
        error: it is no ``str``, has more than ``longest`` characters, or holds CR, LF, NUL, another
            control character (C0, DEL, C1), a line or paragraph separator, or a lone surrogate. The
            text calls it ``what``.
    """
    if not isinstance(value, str):
        raise error(f"expected {what} to be text, got: {shorten_repr(value)}")
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
