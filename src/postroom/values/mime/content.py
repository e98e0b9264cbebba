"""Composed content: the bytes of a message, shared by all its copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from postroom.values.address import Address
from postroom.values.mime.entity import Segment
from postroom.values.mime.fields import address_field

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
