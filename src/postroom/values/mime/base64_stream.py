"""Base64 (RFC 2045 section 6.8) of a stream, in lines of 76, never whole in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct

import pybase64

#: 57 octets fill a line of 76. A block of 3,360 lines is 262,080 octets with their CRLF: the
#: most that stays under the 256 KiB of a chunk.
LINE_OCTETS = 57
_BLOCK_LINES = 3360
_BLOCK_OCTETS = LINE_OCTETS * _BLOCK_LINES

#: Cuts an encoded block into its lines: twice as fast as `pybase64.encodebytes`, which does it
#: line by line, and a replacement of its LFs.
_lines_of = Struct("76s" * _BLOCK_LINES).unpack


def encoded_size(size_bytes: int) -> int:
    """Return how many octets `encode` yields for ``size_bytes``, line ends included."""
    lines = -(-size_bytes // LINE_OCTETS)
    return -(-size_bytes // 3) * 4 + 2 * lines


def encode(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield whole lines ended by CRLF, in pieces of at most 256 KiB.

    Chunks may end anywhere: what does not fill a block is carried to the next.
    """
    carried = b""
    for chunk in chunks:
        octets = memoryview(carried + chunk)
        whole = len(octets) - len(octets) % _BLOCK_OCTETS
        for start in range(0, whole, _BLOCK_OCTETS):
            lines = _lines_of(pybase64.b64encode(octets[start : start + _BLOCK_OCTETS]))
            yield b"\r\n".join((*lines, b""))
        carried = bytes(octets[whole:])
    if carried:
        yield encode_bytes(carried)


def encode_bytes(octets: bytes) -> bytes:
    """Return ``octets`` as lines ended by CRLF."""
    return pybase64.encodebytes(octets).replace(b"\n", b"\r\n")
