"""What the fields of a message may hold, checked where they are assigned."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from postroom.checks import LONGEST_S
from postroom.errors import InvalidAddress, InvalidHeader, MessageError
from postroom.message.address import Address, parse_all, parse_list
from postroom.message.envelope import DsnOptions
from postroom.message.headers import ADDRESSES, SINGLE, check_header
from postroom.text import check_line, shorten_repr

E = TypeVar("E", bound=StrEnum)

#: RFC 5322 section 3.6.4, without the comments and quoted strings nobody writes there.
_MESSAGE_ID = re.compile(r"<[!-;=?-~]+@[!-;=?-~]+>")
_LONGEST_MESSAGE_ID = 900  # a header line holds 998 octets

#: A lone surrogate has no UTF-8, and PostgreSQL keeps no NUL.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def parse_address(value: str | Address) -> Address:
    """Return ``value`` as an address."""
    if isinstance(value, Address):
        return value
    if isinstance(value, str):
        return Address(value)
    raise MessageError(f"expected an address to be a str or an Address, got: {shorten_repr(value)}")


def parse_addresses(values: Iterable[str | Address], what: str) -> tuple[Address, ...]:
    """Return ``values`` as addresses; all the wrong ones are named at once."""
    given = as_tuple(values, what)
    texts = [value for value in given if isinstance(value, str)]
    parsed = iter(parse_all(texts))
    return tuple(next(parsed) if isinstance(one, str) else parse_address(one) for one in given)


def as_tuple(
    values: Iterable[Any], what: str, each: Callable[[Any], Any] | None = None
) -> tuple[Any, ...]:
    """Return ``values`` as a tuple; a single text is no list.

    Args:
        values: What was given.
        what: The name to call it by in an error.
        each: Makes something else of every value as it comes; None keeps them.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise MessageError(f"`{what}` must be a list, not {shorten_repr(values)}")
    return tuple(values) if each is None else tuple(map(each, values))


def one_line_texts(values: Iterable[str], what: str) -> tuple[str, ...]:
    """Return ``values`` as a tuple of one-line texts, none of them empty."""
    texts = tuple(check_line(value, what, error=MessageError) for value in as_tuple(values, what))
    if "" in texts:
        raise MessageError(
            f"expected {what} to be without an empty text, got: {shorten_repr(texts)}"
        )
    return texts


def storable_text(text: Any, what: str) -> str:
    """Return ``text`` where it can be stored and encoded."""
    if not isinstance(text, str):
        raise MessageError(f"expected {what} to be a str or a Template, got: {type(text).__name__}")
    if text.isascii() and "\0" not in text:  # a bulletin of 100 KB, at memory speed
        return text
    if found := _UNSTORABLE.search(text):
        raise MessageError(
            f"expected {what} to be without NUL and lone surrogates, "
            f"got: {found[0]!r} at character {found.start()}"
        )
    return text


def aware_datetime(value: Any, what: str) -> datetime | None:
    """Return ``value`` where it tells its time zone."""
    if value is None:
        return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise MessageError(
            f"expected {what} to be a datetime with a time zone, got: {shorten_repr(value)}; "
            "for example datetime.now(UTC)"
        )
    try:
        value.astimezone(UTC).timestamp()
    except (OverflowError, ValueError, OSError) as error:
        raise MessageError(
            f"{what} must be a moment between the years 1 and 9999 in UTC, not "
            f"{shorten_repr(value)}; "
            "leave it out if there is none"
        ) from error
    return value


def enum_member(choices: type[E], value: Any, what: str) -> E:
    """Return the member of ``choices`` that ``value`` names."""
    if isinstance(value, choices):
        return value
    names = [choice.value for choice in choices]
    # Asked for by name: an enumeration shows what it does not know, and an object may refuse to.
    if isinstance(value, str) and value in names:
        return choices(value)
    near = difflib.get_close_matches(value, names, n=1) if isinstance(value, str) else []
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise MessageError(
        f"expected {what} to be one of {', '.join(names)}, got: {shorten_repr(value)}{hint}"
    )


def checked_delays(values: Iterable[float] | None) -> tuple[float, ...] | None:
    """Return seconds between tries."""
    if values is None:
        return None
    delays = as_tuple(values, "retry_delays_s")
    for delay in delays:
        is_number = isinstance(delay, int | float) and not isinstance(delay, bool)
        if not is_number or not 0 <= delay <= LONGEST_S:
            raise MessageError(
                f"expected retry_delays_s to be seconds of 0 or more, up to {LONGEST_S:.0f}, "
                f"got: {shorten_repr(delay)}"
            )
    return tuple(map(float, delays))


def checked_headers(
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
) -> tuple[tuple[str, str], ...]:
    """Return custom headers as pairs; a mapping holds each name once, pairs may repeat it."""
    pairs: Iterable[Any] = headers.items() if isinstance(headers, Mapping) else headers
    checked = []
    for pair in as_tuple(pairs, "headers"):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InvalidHeader(
                f"expected a header to be a name and a value, got: {shorten_repr(pair)}"
            )
        name, value = check_header(*pair)
        if name.lower() in ADDRESSES and not value.isascii():
            _check_addresses(name, value)
        checked.append((name, value))
    return tuple(checked)


def _check_addresses(name: str, value: str) -> None:
    try:
        parse_list(value)
    except InvalidAddress as error:
        raise InvalidHeader(f"the header {name} must hold addresses: {error}") from error


def refuse_repeated_headers(headers: Iterable[tuple[str, str]]) -> None:
    """Refuse to write a header twice that readers expect once (RFC 5322 section 3.6)."""
    seen: set[str] = set()
    for name, _ in headers:
        lower = name.lower()
        if lower in seen and lower in SINGLE:
            raise InvalidHeader(f"expected the header {name} to be given once, got: it twice")
        seen.add(lower)


def checked_dsn(notice: DsnOptions | None) -> DsnOptions | None:
    """Return ``notice`` where it is one."""
    if notice is None:
        return None
    if not isinstance(notice, DsnOptions):
        raise MessageError(f"expected notice to be a DsnOptions, got: {shorten_repr(notice)}")
    return notice


def checked_message_id(value: str) -> str:
    """Return a Message-ID in its angle brackets."""
    text = check_line(value, "a Message-ID", error=InvalidHeader).strip()
    bracketed = text if text.startswith("<") else f"<{text}>"
    if not is_message_id(bracketed):
        raise InvalidHeader(
            f"expected a Message-ID to be like <left@right>, got: {shorten_repr(value)}"
        )
    return bracketed


def is_message_id(text: str) -> bool:
    """Tell whether ``text`` is a Message-ID in angle brackets, and nothing else."""
    return len(text) <= _LONGEST_MESSAGE_ID and _MESSAGE_ID.fullmatch(text) is not None
