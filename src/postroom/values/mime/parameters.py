"""Parameters of Content-Type and Content-Disposition; RFC 2231 where ASCII is not enough."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from string import ascii_letters, digits

_PLAIN = re.compile(r"[ !#-\[\]-~]{1,60}")
_ATTRIBUTE = frozenset(f"{ascii_letters}{digits}!#$&+-.^_`{{}}~".encode())
_NOT_PORTABLE = re.compile(r"[^A-Za-z0-9._ -]")

#: One piece of a long value: with ``filename*10*=`` before it, it fits a folded line.
_ROOM = 56
_FALLBACK_LENGTH = 50


def disposition_field(disposition: str, filename: str) -> str:
    """Return Content-Disposition with the file's name (RFC 2183).

    A name beyond ASCII is written by RFC 2231, and after it once more in ASCII for readers that
    know only ``filename=``.
    """
    # A line each: spaces inside a name are not a place to fold, some readers squeeze them.
    return ";\r\n ".join((f"Content-Disposition: {disposition}", *_filename(filename))) + "\r\n"


def _filename(filename: str) -> Iterator[str]:
    if _PLAIN.fullmatch(filename) and "=?" not in filename:
        yield f'filename="{filename}"'
        return
    pieces = list(_extended(filename))
    if len(pieces) == 1:
        yield f"filename*={pieces[0]}"
    else:
        yield from (f"filename*{number}*={piece}" for number, piece in enumerate(pieces))
    yield f'filename="{_fallback(filename)}"'


def _extended(value: str) -> Iterator[str]:
    """Yield ``value`` percent-encoded, in pieces that each hold whole characters."""
    piece = "utf-8''"
    for character in value:
        quoted = "".join(
            chr(octet) if octet in _ATTRIBUTE else f"%{octet:02X}" for octet in character.encode()
        )
        if len(piece) + len(quoted) > _ROOM:
            yield piece
            piece = ""
        piece += quoted
    yield piece


def _fallback(filename: str) -> str:
    """Return a name in ASCII: accents dropped, the rest replaced, the extension kept."""
    stem, dot, extension = filename.rpartition(".")
    if not dot:
        stem, extension = filename, ""
    plain = _ascii(stem)[:_FALLBACK_LENGTH].strip(" .") or "attachment"
    return f"{plain}.{_ascii(extension)[:8]}".rstrip(" .")


def _ascii(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return _NOT_PORTABLE.sub("_", letters)
