"""Writes header fields as folded lines (RFC 5322 section 2.2), with encoded-words (RFC 2047).

Only an address that needs SMTPUTF8 makes a field that is not ASCII.
"""

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

#: An encoded-word may have 75 characters (RFC 2047 section 2). With 66, the first one fits into a
#: line of 76 with any name of up to nine letters, such as Subject and Reply-To.
MAX_ENCODED_WORD = 66

_MAX_PAYLOAD = MAX_ENCODED_WORD - len("=?utf-8?q??=")
_MAX_BASE64_BYTES = _MAX_PAYLOAD // 4 * 3

#: What the Q encoding leaves as it is: characters that are safe in a phrase (RFC 2047 section 5).
_SAFE = frozenset(f"{ascii_letters}{digits}!*+-/".encode())
_UNSAFE = bytes(octet for octet in range(256) if octet not in _SAFE and octet != 0x20)
_Q = tuple(
    "_" if octet == 0x20 else chr(octet) if octet in _SAFE else f"={octet:02X}"
    for octet in range(256)
)

#: RFC 5322 section 2.1.1 recommends 78, RFC 2047 section 2 requires 76 with encoded-words.
MAX_LINE = 76
#: The hard limit of a line (RFC 5322 section 2.1.1).
MAX_OCTETS = 998
#: Fits into a line with the name of the field.
_MAX_SUBJECT_WORD = 66
#: Longer names are written as encoded-words, which can be folded anywhere.
_MAX_PHRASE = 60

_PIECE = re.compile(r" *[^ ]+")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\""})

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def fold(line: str) -> str:
    """Return a field folded before spaces, with CRLF at its end (RFC 5322 section 2.2.3).

    It is not folded right after the name, where some readers show the space, unless an encoded-word
    would be too long there.

    Args:
        line: The field, without CRLF.

    Raises:
        InvalidHeader: A word is so long that its line would have more than 998 octets.
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
            f"the header {name} must be in words of at most {MAX_WORD} characters, not "
            f"{shorten_repr(line)}"
        )
    return "\r\n".join(lines) + "\r\n"


def text_field(name: str, value: str, *, longest_word: int = MAX_WORD) -> str:
    """Return a field of free text, with encoded-words if they are needed.

    They are needed for text that is not plain ASCII, that has a longer word, or that folding would
    change.

    Args:
        name: The name of the field.
        value: Its text.
        longest_word: The most characters of a word that is not encoded.
    """
    line = f"{name}: {value}"
    if _is_plain(value) and (len(line) <= MAX_LINE or _is_foldable(value, longest_word)):
        return fold(line)
    return fold(f"{name}: {encoded_words(value)}")


def subject_field(subject: str) -> str:
    """Return the Subject; since people read it, a long word may be encoded in parts.

    Args:
        subject: The subject, in one line.
    """
    return text_field("Subject", subject, longest_word=_MAX_SUBJECT_WORD)


def custom_field(name: str, value: str) -> str:
    """Return a custom header; structured ones are written as they are.

    Args:
        name: The name, already checked.
        value: The value, already checked.
    """
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
    """Return a field with addresses.

    Args:
        name: The name of the field.
        addresses: The addresses; their display names are encoded if they have to be.
    """
    return fold(f"{name}: {', '.join(map(mailbox, addresses))}")


def mailbox(address: Address) -> str:
    """Return an address as it is written in a header.

    An address whose local part needs SMTPUTF8 is written in UTF-8 with its domain. Every other
    domain is written in A-labels, which every relay and reader accepts.

    Args:
        address: The address, with or without a display name.
    """
    if address.needs_smtputf8:
        addr_spec = f"{address.local}@{readable_domain(address.domain)}"
    else:
        addr_spec = address.envelope
    return f"{phrase(address.name)} <{addr_spec}>" if address.name else addr_spec


def phrase(name: str) -> str:
    """Return a display name as atoms, a quoted-string or encoded-words (RFC 5322 section 3.2.5).

    Args:
        name: The display name.
    """
    if len(name) > _MAX_PHRASE or not _is_plain(name) or "  " in name:
        return encoded_words(name)
    if _ATOMS.fullmatch(name):
        return name
    return f'"{name.translate(_ESCAPED)}"'


def date_field(date: datetime) -> str:
    """Return the Date in UTC, the same on every machine (RFC 5322 section 3.3).

    Args:
        date: The time, with a time zone.
    """
    utc = date.astimezone(UTC)
    return (
        f"Date: {_DAYS[utc.weekday()]}, {utc.day:02d} {_MONTHS[utc.month - 1]} {utc.year:04d} "
        f"{utc.hour:02d}:{utc.minute:02d}:{utc.second:02d} +0000\r\n"
    )


def _is_plain(value: str) -> bool:
    """Return whether readers show ``value`` as it is: ASCII that does not look encoded."""
    return (
        value.isascii()
        and value.isprintable()
        and "=?" not in value
        and value[:1] != " "
        and value[-1:] != " "
    )


def _is_foldable(value: str, longest_word: int) -> bool:
    """Return whether readers show the same ``value`` after folding: some join spaces."""
    return "  " not in value and max(map(len, value.split(" "))) <= longest_word


def _list_id(value: str) -> str:
    name, bracket, identifier = value.rpartition("<")
    name = name.strip(' "')
    return f"{phrase(name)} {bracket}{identifier}" if name else value


def encoded_words(text: str) -> str:
    """Return ``text`` as encoded-words, in Q or base64, whichever is shorter (RFC 2047).

    Readers drop the spaces between encoded-words, so all of ``text`` is inside them, its spaces
    too. No character is split, and no word if there are spaces, because some readers show a space
    between two encoded-words.

    A base64 word that is not the last has no padding: GMime (Evolution, Geary, notmuch) decodes
    adjacent words as one stream, which ends at the first padding. Such a word ends after a multiple
    of three bytes; if no character ends there, it is written in Q.

    Args:
        text: The text.
    """
    octets = text.encode()
    quoted_size = len(octets) + 2 * (len(octets) - len(octets.translate(None, _UNSAFE)))
    if quoted_size <= (len(octets) + 2) // 3 * 4:
        if quoted_size <= _MAX_PAYLOAD:
            return _q_word(octets)
        return " ".join([f"=?utf-8?q?{word}?=" for word in _q_payloads(text)])
    return " ".join(_base64_words(octets))


def _base64_words(octets: bytes) -> Iterator[str]:
    start = 0
    while len(octets) - start > _MAX_BASE64_BYTES:
        end = _word_end(octets, start)
        piece = octets[start:end]
        if len(piece) % 3:
            yield _q_word(piece)
        else:
            yield f"=?utf-8?b?{binascii.b2a_base64(piece, newline=False).decode()}?="
        start = end
    yield f"=?utf-8?b?{binascii.b2a_base64(octets[start:], newline=False).decode()}?="


def _word_end(octets: bytes, start: int) -> int:
    """Return where the word that begins at ``start`` ends; a character ends there too.

    At the last space after a multiple of three bytes, if it is not too near; else at the last such
    character; else after the last character that fits (the word is then written in Q).
    """
    whole = range(start + _MAX_BASE64_BYTES, start, -3)
    for end in whole[: len(whole) // 2]:
        if b" " in octets[end - 1 : end + 1]:
            return end
    for end in whole:
        if _begins_character(octets[end]):
            return end
    end = start + _MAX_PAYLOAD // 3
    while not _begins_character(octets[end]):
        end -= 1
    return end


def _begins_character(octet: int) -> bool:
    return octet & 0xC0 != 0x80


def _q_word(octets: bytes) -> str:
    return f"=?utf-8?q?{''.join([_Q[octet] for octet in octets])}?="


def _q_payloads(text: str) -> Iterator[str]:
    word = ""
    for character in text:
        quoted = "".join([_Q[octet] for octet in character.encode()])
        if len(word) + len(quoted) > _MAX_PAYLOAD:
            whole = word.rfind("_") + 1 or len(word)
            yield word[:whole]
            word = word[whole:]
        word += quoted
    yield word
