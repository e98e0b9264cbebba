"""Encoded-words (RFC 2047): text of any script in a header of nothing but ASCII."""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from string import ascii_letters, digits

#: An encoded-word may have 75 octets. At 66 the first one still fits a line of 76 beside any
#: name of up to nine letters, as Subject and Reply-To.
MAX_OCTETS = 66

_ROOM = MAX_OCTETS - len("=?utf-8?q??=")
_BASE64_ROOM = _ROOM // 4 * 3

#: What Q leaves as it is: the few characters that are safe in a phrase too (RFC 2047 5 (3)).
_SAFE = frozenset(f"{ascii_letters}{digits}!*+-/".encode())
_UNSAFE = bytes(octet for octet in range(256) if octet not in _SAFE and octet != 0x20)
_Q = tuple(
    "_" if octet == 0x20 else chr(octet) if octet in _SAFE else f"={octet:02X}"
    for octet in range(256)
)


def encoded(text: str) -> str:
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
