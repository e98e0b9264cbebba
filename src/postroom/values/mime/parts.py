"""Leaf parts: a text in the encoding that suits it, and attachments as streams."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from postroom.values.errors import MessageError
from postroom.values.headers import checked_text
from postroom.values.message import Disposition, Part
from postroom.values.mime import base64_stream, quoted_printable
from postroom.values.mime.embedded import embedded
from postroom.values.mime.entity import Entity
from postroom.values.mime.fields import fold
from postroom.values.mime.parameters import disposition_field

#: RFC 5322 section 2.1.1.
MAX_LINE = 998

#: What travels as it is. Any other octet calls for an encoding.
_PLAIN = bytes((0x09, 0x0A, *range(0x20, 0x7F)))
#: What mail systems change in a plain line: dots are doubled, "From " becomes ">From ", spaces
#: at the end vanish. And what a boundary of ours begins with. (It begins with a newline on
#: purpose: `re` then looks only there, five times as fast as five searches.)
_FRAGILE = re.compile(rb"\n(?:\.|From |--=_|(?<=[ \t]\n))")
_BEYOND_ASCII = bytes(range(0x80, 0x100))


def text_part(subtype: str, text: str) -> Entity:
    """Return ``text`` as text/``subtype``: 7bit where that is safe, else what is shorter.

    Raises:
        MessageError: it holds a lone surrogate, which has no octets.
    """
    octets = _octets(_with_lf(text), subtype)
    if _is_safe(octets):
        encoding, body = b"7bit", octets.replace(b"\n", b"\r\n")
    else:
        encoding, body = _encoded(octets)
    head = b"Content-Type: text/%b; charset=utf-8\r\nContent-Transfer-Encoding: %b\r\n\r\n"
    return [head % (subtype.encode("ascii"), encoding) + body]


def attachment(part: Part, boundary: str) -> Entity:
    """Return a stored attachment in base64, to be read when it is written.

    A message is read now as well, to see whether it can be written as it is. ``boundary`` is what
    every boundary around it begins with.
    """
    content_type = checked_text(part.content_type, f"the content type of {part.filename}")
    if content_type.startswith(("message/", "multipart/")):
        if body := embedded(part, boundary):
            return [head(part, content_type, "7bit"), body]
        content_type = "application/octet-stream"
    return [head(part, content_type, "base64"), Base64Stream(part)]


@dataclass(frozen=True, slots=True)
class Base64Stream:
    """An attachment's body."""

    part: Part
    ends_line: bool = True

    @property
    def size_bytes(self) -> int:
        """The octets of its lines: arithmetic, nothing is read."""
        return base64_stream.encoded_size(self.part.size_bytes)

    def chunks(self) -> Iterator[bytes]:
        """Yield its lines in pieces of at most 256 KiB."""
        return base64_stream.encode(self.part.open())


def head(part: Part, content_type: str, encoding: str) -> bytes:
    """Return the header of an attachment, and the blank line.

    Raises:
        InvalidHeader: its media type does not fit a line.
    """
    lines = [fold(f"Content-Type: {content_type}"), f"Content-Transfer-Encoding: {encoding}\r\n"]
    if part.disposition is not Disposition.ALTERNATIVE:
        lines.append(disposition_field(part.disposition, part.filename))
    if part.content_id is not None:
        lines.append(f"Content-ID: <{part.content_id}>\r\n")
    return "".join((*lines, "\r\n")).encode("ascii")


def _with_lf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _octets(text: str, subtype: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise MessageError(
            f"expected the text/{subtype} body to be without lone surrogates, "
            f"got: {text[error.start]!r} at character {error.start}"
        ) from None


def _is_safe(octets: bytes) -> bool:
    """Tell whether every mail system leaves the lines of ``octets`` alone."""
    return (
        not octets.translate(None, _PLAIN)
        and not _FRAGILE.search(b"\n%b\n" % octets)
        and (len(octets) <= MAX_LINE or max(map(len, octets.split(b"\n"))) <= MAX_LINE)
    )


def _encoded(octets: bytes) -> tuple[bytes, bytes]:
    canonical = octets.replace(b"\n", b"\r\n")
    size = base64_stream.encoded_size(len(canonical))
    # Every octet beyond ASCII takes three in quoted-printable.
    at_least = len(canonical) + 2 * (len(octets) - len(octets.translate(None, _BEYOND_ASCII)))
    if at_least <= size:
        quoted = quoted_printable.encode(octets)
        if len(quoted) <= size:
            return b"quoted-printable", quoted
    return b"base64", base64_stream.encode_bytes(canonical)[:-2]
