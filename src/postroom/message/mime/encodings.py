"""Base64 (RFC 2045 section 6.8) of a stream, in lines of 76, never whole in memory."""

from __future__ import annotations

import binascii
import re
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


def encode_base64(chunks: Iterable[bytes]) -> Iterator[bytes]:
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


MAX_LINE = 76

#: A dot at the start of a line is doubled on the wire, and "From " becomes ">From " in mailboxes.
_FRAGILE = re.compile(rb"^(?:\.|From ).*", re.MULTILINE)


def encode_quoted_printable(text: bytes) -> bytes:
    """Return ``text``, in which lines end in LF and no CR is, encoded with lines ended by CRLF.

    No line starts with a dot or with "From ".
    """
    lines = binascii.b2a_qp(text, istext=True)
    if lines[:1] in b".F" or b"\n." in lines or b"\nF" in lines:
        lines = _FRAGILE.sub(_protected, lines)
    return lines.replace(b"\n", b"\r\n")


def _protected(line: re.Match[bytes]) -> bytes:
    first, rest = line[0][:1], line[0][1:]
    quoted = b"=%02X" % first[0]
    if len(rest) + len(quoted) <= MAX_LINE:
        return quoted + rest
    # The line was full: its end becomes a line of its own, and may need the same.
    end = MAX_LINE - len(quoted) - len(b"=")
    if (octet := rest.find(b"=", end - 2, end)) >= 0:
        end = octet
    return quoted + rest[:end] + b"=\n" + _FRAGILE.sub(_protected, rest[end:])
