"""Header fields, written as lines: folded, ASCII, one each."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from string import ascii_letters, digits

from postroom.errors import InvalidHeader
from postroom.message.address import Address, parse_list, readable_domain
from postroom.message.headers import ADDRESSES, MAX_WORD, STRUCTURED
from postroom.text import shorten_repr

#: An encoded-word may have 75 octets. At 66 the first one still fits a line of 76 beside any
#: name of up to nine letters, as Subject and Reply-To.
MAX_WORD_OCTETS = 66

_ROOM = MAX_WORD_OCTETS - len("=?utf-8?q??=")
_BASE64_ROOM = _ROOM // 4 * 3

#: What Q leaves as it is: the few characters that are safe in a phrase too (RFC 2047 5 (3)).
_SAFE = frozenset(f"{ascii_letters}{digits}!*+-/".encode())
_UNSAFE = bytes(octet for octet in range(256) if octet not in _SAFE and octet != 0x20)
_Q = tuple(
    "_" if octet == 0x20 else chr(octet) if octet in _SAFE else f"={octet:02X}"
    for octet in range(256)
)


def encoded_words(text: str) -> str:
    """Return ``text`` as encoded-words with a space between: Q or base64, whichever is shorter.

    Readers drop the spaces between encoded-words, so that all of ``text``, its own spaces
    included, stands inside them. No character is split; words are not where there are spaces, for
    readers that show a space too many.

    Nor does base64 end in padding where another word follows: GMime (Evolution, Geary, notmuch)
    decodes neighbours as one stream, which ends at the first padding. Such a word ends where its
    octets are a multiple of three; where no character does, it is written in Q.
    """
    octets = text.encode()
    quoted_size = len(octets) + 2 * (len(octets) - len(octets.translate(None, _UNSAFE)))
    if quoted_size <= (len(octets) + 2) // 3 * 4:
        if quoted_size <= _ROOM:
            return _quoted_word(octets)
        return " ".join([f"=?utf-8?q?{word}?=" for word in _quoted(text)])
    return " ".join(_base64_words(octets))


def _base64_words(octets: bytes) -> Iterator[str]:
    start = 0
    while len(octets) - start > _BASE64_ROOM:
        end = _end(octets, start)
        piece = octets[start:end]
        if len(piece) % 3:
            yield _quoted_word(piece)
        else:
            yield f"=?utf-8?b?{binascii.b2a_base64(piece, newline=False).decode()}?="
        start = end
    yield f"=?utf-8?b?{binascii.b2a_base64(octets[start:], newline=False).decode()}?="


def _end(octets: bytes, start: int) -> int:
    """Return where a word that begins at ``start`` ends, and a character does.

    That is beside the last space whose octets are a multiple of three, if it is not too near, else
    behind the last such character, else (the word is then written in Q) behind the last that fits.
    """
    whole = range(start + _BASE64_ROOM, start, -3)
    for end in whole[: len(whole) // 2]:
        if b" " in octets[end - 1 : end + 1]:
            return end
    for end in whole:
        if _begins_character(octets[end]):
            return end
    end = start + _ROOM // 3
    while not _begins_character(octets[end]):
        end -= 1
    return end


def _begins_character(octet: int) -> bool:
    return octet & 0xC0 != 0x80


def _quoted_word(octets: bytes) -> str:
    return f"=?utf-8?q?{''.join([_Q[octet] for octet in octets])}?="


def _quoted(text: str) -> Iterator[str]:
    word = ""
    for character in text:
        quoted = "".join([_Q[octet] for octet in character.encode()])
        if len(word) + len(quoted) > _ROOM:
            whole = word.rfind("_") + 1 or len(word)
            yield word[:whole]
            word = word[whole:]
        word += quoted
    yield word


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
            f"expected {name} to be in words of at most {MAX_WORD} characters, got: "
            f"{shorten_repr(line)}"
        )
    return "\r\n".join(lines) + "\r\n"


def text_field(name: str, value: str, *, longest_word: int = MAX_WORD) -> str:
    """Return a field of free text; what is not plain ASCII becomes encoded-words.

    So does what has a word of more than ``longest_word``, and what folding would change.
    """
    line = f"{name}: {value}"
    if _is_plain(value) and (len(line) <= MAX_LINE or _is_foldable(value, longest_word)):
        return fold(line)
    return fold(f"{name}: {encoded_words(value)}")


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
        return encoded_words(name)
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
