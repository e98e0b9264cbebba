"""Composed content: the bytes of a message, shared by all its copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from postroom.message.address import Address
from postroom.message.mime.fields import address_field


class ByteStream(Protocol):
    """A part's body that is read only while it is written."""

    @property
    def size_bytes(self) -> int:
        """The octets that `chunks` yields."""
        ...

    @property
    def ends_with_crlf(self) -> bool:
        """Whether the CRLF at its end is the encoding's own and not content."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in pieces; the same at each call."""
        ...


Segment: TypeAlias = bytes | ByteStream
Entity: TypeAlias = list[Segment]


def multipart(subtype: str, boundary: str, parts: Sequence[Entity]) -> Entity:
    """Return ``parts`` as one entity (RFC 2046 section 5.1).

    ``boundary`` occurs in no part; ``subtype`` may bring parameters.
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
    """Tell whether a CRLF goes before the delimiter, which takes it away again."""
    last = part[-1]
    return isinstance(last, bytes) or not last.ends_with_crlf


CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The bytes of a message: a `head` for each copy, and a `tail` they share.

    No line begins with a dot, so that these are at once the bytes of an ``.eml`` file and those
    on the wire: dot-stuffing has nothing to do, and sizes count what is yielded.

    ``needs_smtputf8`` is of the tail; a copy needs it too when its ``to`` does.
    """

    segments: tuple[Segment, ...]
    tail_size_bytes: int
    needs_smtputf8: bool

    def head(self, *, to: Address | None, message_id: str) -> bytes:
        """Return the header lines of one copy, with which its bytes begin.

        ``to`` is None for a message sent ``together``, whose To is in the tail.
        """
        line = "" if to is None else address_field("To", (to,))
        return f"{line}Message-ID: {message_id}\r\n".encode()

    def tail(self) -> Iterator[bytes]:
        """Yield the other header lines, the blank line and the body, ended by CRLF.

        In pieces of at most 256 KiB; attachments are read and encoded on the way. Each call
        yields the same bytes again.
        """
        for segment in self.segments:
            for octets in (segment,) if isinstance(segment, bytes) else segment.chunks():
                if len(octets) <= CHUNK_BYTES:
                    yield octets
                else:
                    yield from _pieces(octets)


def _pieces(octets: bytes) -> Iterator[bytes]:
    for start in range(0, len(octets), CHUNK_BYTES):
        yield octets[start : start + CHUNK_BYTES]
