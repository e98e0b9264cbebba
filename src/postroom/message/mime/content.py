"""The composed content of a message: bytes that all of its copies share.

Attachments are read and encoded only while the content is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from postroom.message.address import Address
from postroom.message.mime.fields import address_field


class ByteStream(Protocol):
    """The body of a part, read only while it is written."""

    @property
    def size_bytes(self) -> int:
        """Return how many bytes `chunks` yields."""
        ...

    @property
    def ends_with_crlf(self) -> bool:
        """Return whether the body ends with a CRLF that belongs to the encoding."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield the body; the same bytes at each call."""
        ...


#: A piece of a mail.
Segment: TypeAlias = bytes | ByteStream
#: A part with its header (RFC 2045 section 2.4), in pieces.
Entity: TypeAlias = list[Segment]

#: The largest piece of content that is yielded at once.
CHUNK_BYTES = 256 * 1024


def multipart(subtype: str, boundary: str, parts: Sequence[Entity]) -> Entity:
    """Return ``parts`` as one multipart entity (RFC 2046 section 5.1).

    Args:
        subtype: The subtype, possibly with parameters, such as ``mixed``.
        boundary: The boundary; no part contains it.
        parts: The parts, at least one.
    """
    head = f'Content-Type: multipart/{subtype};\r\n boundary="{boundary}"\r\n\r\n--{boundary}\r\n'
    segments: Entity = [head.encode("ascii")]
    delimiter = f"--{boundary}\r\n".encode("ascii")
    for part in parts:
        if len(segments) > 1:
            segments.append(delimiter)
        segments.extend(part)
        if _needs_line_end(part):
            segments.append(b"\r\n")
    segments.append(f"--{boundary}--\r\n".encode("ascii"))
    return segments


def _needs_line_end(part: Entity) -> bool:
    """Return whether a CRLF has to be written before the delimiter, to which it belongs."""
    last = part[-1]
    return isinstance(last, bytes) or not last.ends_with_crlf


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The bytes of a message: a `head` for each copy, and a `tail` that all copies share.

    No line begins with a dot, so the bytes of an ``.eml`` file and of an SMTP session are the same:
    dot-stuffing (RFC 5321 section 4.5.2) changes nothing, and sizes count what is yielded.

    Attributes:
        segments: The pieces of the tail.
        tail_size_bytes: The size of the tail.
        needs_smtputf8: The tail needs SMTPUTF8 (RFC 6531). A copy also needs it if its ``to`` does.
    """

    segments: tuple[Segment, ...]
    tail_size_bytes: int
    needs_smtputf8: bool

    def head(self, *, to: Address | None, message_id: str) -> bytes:
        """Return the first header lines of one copy.

        Args:
            to: The recipient of the copy; None for a shared message, whose To is in the tail.
            message_id: The Message-ID, in angle brackets.
        """
        line = "" if to is None else address_field("To", (to,))
        return f"{line}Message-ID: {message_id}\r\n".encode()

    def tail(self) -> Iterator[bytes]:
        """Yield the other header lines, the blank line and the body, which ends with CRLF.

        The pieces have at most 256 KiB. Attachments are read and encoded on the way. Each call
        yields the same bytes.
        """
        for segment in self.segments:
            for octets in (segment,) if isinstance(segment, bytes) else segment.chunks():
                if len(octets) <= CHUNK_BYTES:
                    yield octets
                else:
                    yield from _split(octets)


def _split(octets: bytes) -> Iterator[bytes]:
    for start in range(0, len(octets), CHUNK_BYTES):
        yield octets[start : start + CHUNK_BYTES]
