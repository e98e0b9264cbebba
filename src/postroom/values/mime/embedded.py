"""Attached messages, which no encoding may wrap (RFC 2046 section 5.2.1).

A message/rfc822 part is written as it is, so that it must be what the rest of our bytes are: 7-bit,
in lines of at most 998 octets none of which begins with a dot. One that is not goes as
message/global, the same thing by a name that base64 is allowed for (RFC 6532 section 3.7): its
bytes, and the signatures over them, stay what they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from postroom.values.message import Part

MAX_LINE = 998


class Unfit(ValueError):
    """The message cannot be written as it is."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """The body of an attached message, its lines ended by CRLF whatever they were."""

    part: Part
    boundary: str
    size_bytes: int
    ends_line: bool = False

    def chunks(self) -> Iterator[bytes]:
        """Yield whole lines."""
        return _lines(self.part.open(), self.boundary)


def embedded(part: Part, boundary: str) -> Embedded | None:
    """Return ``part`` as a body that needs no encoding, or None where it needs one.

    It is read once, to see; no more of it than a chunk is held. ``boundary`` is what every
    boundary around it begins with.
    """
    try:
        size_bytes = sum(map(len, _lines(part.open(), boundary)))
    except Unfit:
        return None
    return Embedded(part, boundary, size_bytes)


def _lines(chunks: Iterable[bytes], boundary: str) -> Iterator[bytes]:
    delimiter = f"\n--{boundary}".encode("ascii")
    carried = b""
    for chunk in chunks:
        whole, newline, carried = (carried + chunk).rpartition(b"\n")
        if newline:
            yield _checked(whole + newline, delimiter)
        if len(carried) > MAX_LINE + 1:
            raise Unfit("a line is too long")
    if carried:
        yield _checked(carried + b"\n", delimiter)


def _checked(lines: bytes, delimiter: bytes) -> bytes:
    lines = lines.replace(b"\r\n", b"\n")
    before = b"\n" + lines
    if not lines.isascii() or b"\0" in lines or b"\r" in lines:
        raise Unfit("it is not plain text")
    if b"\n." in before or delimiter in before:
        raise Unfit("a line begins like one of the transport's or of ours")
    if max(map(len, lines.split(b"\n"))) > MAX_LINE:
        raise Unfit("a line is too long")
    return lines.replace(b"\n", b"\r\n")
