"""Header fields, written as lines: folded, ASCII, one each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from postroom.values.address import Address, parse_list
from postroom.values.domain import readable_domain
from postroom.values.errors import InvalidHeader
from postroom.values.headers import ADDRESSES, MAX_WORD, STRUCTURED, shown
from postroom.values.mime.words import encoded

#: RFC 5322 asks for 78, RFC 2047 for 76 where encoded-words are: 76 is right for both.
MAX_LINE = 76
#: RFC 5322 section 2.1.1.
MAX_OCTETS = 998
#: Fits a line beside the name of the field.
_LONGEST_WORD = 66
#: Longer names are folded inside encoded-words, where any word can be.
_MAX_PHRASE = 60

_PIECE = re.compile(r" *[^ ]+")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\""})

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def fold(line: str) -> str:
    """Return the field ``line`` broken before spaces, CRLF at its end (RFC 5322 2.2.3).

    It does not break right after the field's name, where some readers take the space for content,
    but before an encoded-word that would be too long there.

    Raises:
        InvalidHeader: a word is so long that its line would exceed 998 octets.
    """
    if len(line) <= MAX_LINE:
        return line + "\r\n"
    name, *words = _PIECE.findall(line)
    lines = [name]
    for word in words:
        fits = len(lines[-1]) + len(word) <= MAX_LINE
        is_first = lines[-1] is name and not word.startswith(" =?")
        if fits or is_first:
            lines[-1] += word
        else:
            lines.append(word)
    if any(len(line.encode()) > MAX_OCTETS for line in lines):
        raise InvalidHeader(
            f"expected {name} to be in words of at most {MAX_WORD} characters, got: {shown(line)}"
        )
    return "\r\n".join(lines) + "\r\n"


def text_field(name: str, value: str, *, longest_word: int = MAX_WORD) -> str:
    """Return a field of free text; what is not plain ASCII becomes encoded-words.

    So does what has a word of more than ``longest_word``, and what folding would change.
    """
    line = f"{name}: {value}"
    if _is_plain(value) and (len(line) <= MAX_LINE or _is_foldable(value, longest_word)):
        return fold(line)
    return fold(f"{name}: {encoded(value)}")


def subject_field(subject: str) -> str:
    """Return the Subject. It is for people: a long word of theirs may be broken."""
    return text_field("Subject", subject, longest_word=_LONGEST_WORD)


def custom_field(name: str, value: str) -> str:
    """Return a custom header, checked before; structured ones go word for word."""
    value = value.strip(" ")
    if not value:
        return f"{name}:\r\n"
    lower = name.lower()
    if lower in ADDRESSES and not value.isascii():
        return address_field(name, parse_list(value))
    if lower in STRUCTURED or lower in ADDRESSES:
        return fold(f"{name}: {value}")
    if lower == "list-id":
        return fold(f"List-ID: {_list_id(value)}")
    return text_field(name, value)


def address_field(name: str, addresses: Iterable[Address]) -> str:
    """Return a field of addresses, the names encoded where they must be."""
    return fold(f"{name}: {', '.join(map(mailbox, addresses))}")


def mailbox(address: Address) -> str:
    """Return ``address`` as it stands in a header.

    Only an address whose local part needs SMTPUTF8 anyway is written in UTF-8, its domain too;
    the domain of any other is in A-labels, which every relay and reader takes.
    """
    if address.needs_smtputf8:
        addr_spec = f"{address.local}@{readable_domain(address.domain)}"
    else:
        addr_spec = address.envelope
    return f"{phrase(address.name)} <{addr_spec}>" if address.name else addr_spec


def phrase(name: str) -> str:
    """Return a display name as atoms, a quoted-string or encoded-words (RFC 5322 3.2.5)."""
    if len(name) > _MAX_PHRASE or not _is_plain(name) or "  " in name:
        return encoded(name)
    if _ATOMS.fullmatch(name):
        return name
    return f'"{name.translate(_ESCAPED)}"'


def date_field(date: datetime) -> str:
    """Return the Date, in UTC: the same on every machine (RFC 5322 section 3.3)."""
    utc = date.astimezone(UTC)
    return (
        f"Date: {_DAYS[utc.weekday()]}, {utc.day:02d} {_MONTHS[utc.month - 1]} {utc.year:04d} "
        f"{utc.hour:02d}:{utc.minute:02d}:{utc.second:02d} +0000\r\n"
    )


def _is_plain(value: str) -> bool:
    """Tell whether a reader sees ``value`` as it is: ASCII that no one takes for encoded."""
    return (
        value.isascii()
        and value.isprintable()
        and "=?" not in value
        and value[:1] != " "
        and value[-1:] != " "
    )


def _is_foldable(value: str, longest_word: int) -> bool:
    """Tell whether readers see the same ``value`` when it was folded: some squeeze spaces."""
    return "  " not in value and max(map(len, value.split(" "))) <= longest_word


def _list_id(value: str) -> str:
    name, bracket, identifier = value.rpartition("<")
    name = name.strip(' "')
    return f"{phrase(name)} {bracket}{identifier}" if name else value
