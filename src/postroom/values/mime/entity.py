"""Entities: a part with its headers, as a list of segments, and parts put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias


class Stream(Protocol):
    """A part's body that is read only while it is written."""

    @property
    def size_bytes(self) -> int:
        """The octets that `chunks` yields."""
        ...

    @property
    def ends_line(self) -> bool:
        """Whether the CRLF at its end is the encoding's own and not content."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in pieces; the same at each call."""
        ...


Segment: TypeAlias = bytes | Stream
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
    return isinstance(last, bytes) or not last.ends_line
