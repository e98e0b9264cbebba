"""Checks and conversions for the fields of a message.

A value that passes here can be stored in every database and written into a mail.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from postroom.checks import MAX_SECONDS
from postroom.errors import InvalidAddress, InvalidHeader, MessageError
from postroom.message.address import Address, parse_all, parse_list
from postroom.message.envelope import DsnOptions
from postroom.message.headers import ADDRESSES, SINGLE, check_header
from postroom.text import check_line, shorten_repr

E = TypeVar("E", bound=StrEnum)

#: RFC 5322 section 3.6.4, without comments and quoted strings, which are not used there.
_MESSAGE_ID = re.compile(r"<[!-;=?-~]+@[!-;=?-~]+>")
_MAX_MESSAGE_ID = 900  # a header line has up to 998 octets (RFC 5322 section 2.1.1)

#: A lone surrogate cannot be encoded in UTF-8, and PostgreSQL stores no NUL.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def parse_address(value: str | Address) -> Address:
    """Return ``value`` as an address.

    Args:
        value: An address, or its text.

    Raises:
        MessageError: It is neither.
        InvalidAddress: The text is not an address.
    """
    if isinstance(value, Address):
        return value
    if isinstance(value, str):
        return Address(value)
    raise MessageError(f"an address must be a str or an Address, not {shorten_repr(value)}")


def parse_addresses(values: Iterable[str | Address], what: str) -> tuple[Address, ...]:
    """Return ``values`` as addresses.

    Args:
        values: Addresses, or their texts.
        what: What an error calls them.

    Raises:
        InvalidAddress: Some texts are not addresses; the error names them all.
        MessageError: Something else is wrong.
    """
    entries = as_tuple(values, what)
    texts = [value for value in entries if isinstance(value, str)]
    parsed = iter(parse_all(texts))
    return tuple(next(parsed) if isinstance(one, str) else parse_address(one) for one in entries)


def as_tuple(
    values: Iterable[Any], what: str, each: Callable[[Any], Any] | None = None
) -> tuple[Any, ...]:
    """Return ``values`` as a tuple; a single text is refused.

    Args:
        values: A list, or another iterable.
        what: What an error calls it.
        each: Converts every value; None: the values are kept.

    Raises:
        MessageError: It is not iterable, or a text.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise MessageError(f"{what} must be a list, not {shorten_repr(values)}")
    return tuple(values) if each is None else tuple(map(each, values))


def one_line_texts(values: Iterable[str], what: str) -> tuple[str, ...]:
    """Return ``values`` as a tuple of one-line texts that are not empty.

    Args:
        values: The texts.
        what: What an error calls them.

    Raises:
        MessageError: It is not a list, or one of them is empty or has a control character.
    """
    texts = tuple(check_line(value, what, error=MessageError) for value in as_tuple(values, what))
    if "" in texts:
        raise MessageError(f"{what} must not contain an empty text: {shorten_repr(texts)}")
    return texts


def storable_text(text: Any, what: str) -> str:
    """Return ``text`` if it can be stored and encoded.

    Args:
        text: The text of a body.
        what: What an error calls it.

    Raises:
        MessageError: It is not a ``str``, or contains NUL or a lone surrogate.
    """
    if not isinstance(text, str):
        raise MessageError(f"{what} must be a str or a Template, not {type(text).__name__}")
    if text.isascii() and "\0" not in text:  # fast also for 100 KB
        return text
    if found := _UNSTORABLE.search(text):
        raise MessageError(
            f"{what} must not contain NUL or a lone surrogate: {found[0]!r} at character "
            f"{found.start()}"
        )
    return text


def aware_datetime(value: Any, what: str) -> datetime | None:
    """Return ``value`` if it is a datetime with a time zone, or None.

    Args:
        value: The value to check.
        what: What an error calls it.

    Raises:
        MessageError: It has no time zone, or is not between the years 1 and 9999 in UTC.
    """
    if value is None:
        return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise MessageError(
            f"{what} must be a datetime with a time zone, such as datetime.now(UTC), not "
            f"{shorten_repr(value)}"
        )
    try:
        value.astimezone(UTC).timestamp()
    except (OverflowError, ValueError, OSError) as error:
        raise MessageError(
            f"{what} must be between the years 1 and 9999 in UTC, not {shorten_repr(value)}; "
            "leave it out if there is none"
        ) from error
    return value


def enum_member(enum: type[E], value: Any, what: str) -> E:
    """Return the member of ``enum`` that ``value`` is or names.

    Args:
        enum: The enumeration.
        value: A member or its value.
        what: What an error calls it.

    Raises:
        MessageError: It is neither; the error suggests the nearest name.
    """
    if isinstance(value, enum):
        return value
    names = [member.value for member in enum]
    # Not enum(value): its error contains the repr of the value, which may fail.
    if isinstance(value, str) and value in names:
        return enum(value)
    close = difflib.get_close_matches(value, names, n=1) if isinstance(value, str) else []
    advice = f"; did you mean {close[0]!r}?" if close else ""
    raise MessageError(
        f"{what} must be one of {', '.join(names)}, not {shorten_repr(value)}{advice}"
    )


def checked_delays(values: Iterable[float] | None) -> tuple[float, ...] | None:
    """Return the delays between tries, in seconds, if all of them are 0 or more; None stays None.

    Args:
        values: The delays of ``Message.retry_delays_s``.

    Raises:
        MessageError: One of them is not such a number.
    """
    if values is None:
        return None
    delays = as_tuple(values, "retry_delays_s")
    for delay in delays:
        is_number = isinstance(delay, int | float) and not isinstance(delay, bool)
        if not is_number or not 0 <= delay <= MAX_SECONDS:
            raise MessageError(
                f"retry_delays_s must be seconds from 0 to {MAX_SECONDS:.0f}, not "
                f"{shorten_repr(delay)}"
            )
    return tuple(map(float, delays))


def checked_headers(
    headers: Mapping[str, str] | Iterable[tuple[str, str]],
) -> tuple[tuple[str, str], ...]:
    """Return custom headers as pairs of name and value.

    Args:
        headers: A mapping, or pairs, which may repeat a name.

    Raises:
        InvalidHeader: One of them cannot be written.
    """
    pairs: Iterable[Any] = headers.items() if isinstance(headers, Mapping) else headers
    checked = []
    for pair in as_tuple(pairs, "headers"):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InvalidHeader(
                f"a header must be a pair of name and value, not {shorten_repr(pair)}"
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
        raise InvalidHeader(f"the header {name} must contain addresses: {error}") from error


def refuse_repeated_headers(headers: Iterable[tuple[str, str]]) -> None:
    """Refuse a header that is given twice but may occur once (RFC 5322 section 3.6).

    Args:
        headers: Pairs of name and value.

    Raises:
        InvalidHeader: There is one.
    """
    seen: set[str] = set()
    for name, _ in headers:
        lower = name.lower()
        if lower in seen and lower in SINGLE:
            raise InvalidHeader(f"the header {name} may be given once, not twice")
        seen.add(lower)


def checked_dsn(dsn: DsnOptions | None) -> DsnOptions | None:
    """Return ``dsn`` if it is a `DsnOptions` or None.

    Args:
        dsn: The value to check.

    Raises:
        MessageError: It is something else.
    """
    if dsn is not None and not isinstance(dsn, DsnOptions):
        raise MessageError(f"dsn must be a DsnOptions, not {shorten_repr(dsn)}")
    return dsn


def checked_message_id(value: str) -> str:
    """Return a Message-ID in angle brackets (RFC 5322 section 3.6.4).

    Args:
        value: The Message-ID, with or without its brackets.

    Raises:
        InvalidHeader: It is not a Message-ID.
    """
    text = check_line(value, "a Message-ID", error=InvalidHeader).strip()
    bracketed = text if text.startswith("<") else f"<{text}>"
    if not is_message_id(bracketed):
        raise InvalidHeader(f"a Message-ID must be like <left@right>, not {shorten_repr(value)}")
    return bracketed


def is_message_id(text: str) -> bool:
    """Return whether ``text`` is a Message-ID in angle brackets, and nothing else.

    Args:
        text: The text to check.
    """
    return len(text) <= _MAX_MESSAGE_ID and _MESSAGE_ID.fullmatch(text) is not None
