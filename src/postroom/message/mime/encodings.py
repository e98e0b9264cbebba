"""Base64 and quoted-printable (RFC 2045 sections 6.7 and 6.8), in lines of up to 76 characters.

Base64 encodes a stream without having all of it in memory.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from struct import Struct

import pybase64

#: The longest line of both encodings (RFC 2045 sections 6.7 and 6.8).
MAX_LINE = 76

#: SMTP doubles a dot at the start of a line, and mailboxes turn "From " into ">From ".
_FRAGILE = re.compile(rb"^(?:\.|From ).*", re.MULTILINE)

#: 57 bytes fill a line of 76. A block of 3,360 lines has 262,080 bytes with its line ends, just
#: under the 256 KiB of a chunk.
LINE_OCTETS = 57
_BLOCK_LINES = 3360
_BLOCK_OCTETS = LINE_OCTETS * _BLOCK_LINES

#: Splits an encoded block into lines: twice as fast as `pybase64.encodebytes`, which encodes line
#: by line, and replacing its LFs.
_split_lines = Struct("76s" * _BLOCK_LINES).unpack


def encoded_size(size_bytes: int) -> int:
    """Return how many bytes `encode_base64` yields, with line ends.

    Args:
        size_bytes: The size of the content.
    """
    lines = -(-size_bytes // LINE_OCTETS)
    return -(-size_bytes // 3) * 4 + 2 * lines


def encode_base64(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield whole lines that end with CRLF, in pieces of at most 256 KiB.

    Args:
        chunks: The content, split anywhere.
    """
    carried = b""
    for chunk in chunks:
        octets = memoryview(carried + chunk)
        whole = len(octets) - len(octets) % _BLOCK_OCTETS
        for start in range(0, whole, _BLOCK_OCTETS):
            lines = _split_lines(pybase64.b64encode(octets[start : start + _BLOCK_OCTETS]))
            yield b"\r\n".join((*lines, b""))
        carried = bytes(octets[whole:])
    if carried:
        yield encode_bytes(carried)


def encode_bytes(octets: bytes) -> bytes:
    """Return ``octets`` in base64, in lines that end with CRLF.

    Args:
        octets: The content.
    """
    return pybase64.encodebytes(octets).replace(b"\n", b"\r\n")


def encode_quoted_printable(text: bytes) -> bytes:
    """Return ``text`` in quoted-printable, in lines that end with CRLF.

    No line begins with a dot or with "From ".

    Args:
        text: The content; its lines end with LF, and it contains no CR.
    """
    lines = binascii.b2a_qp(text, istext=True)
    if lines[:1] in b".F" or b"\n." in lines or b"\nF" in lines:
        lines = _FRAGILE.sub(_protect_line, lines)
    return lines.replace(b"\n", b"\r\n")


def _protect_line(line: re.Match[bytes]) -> bytes:
    first, rest = line[0][:1], line[0][1:]
    quoted = b"=%02X" % first[0]
    if len(rest) + len(quoted) <= MAX_LINE:
        return quoted + rest
    # The line was full: its end becomes another line, which may need the same.
    end = MAX_LINE - len(quoted) - len(b"=")
    if (escape := rest.find(b"=", end - 2, end)) >= 0:
        end = escape
    return quoted + rest[:end] + b"=\n" + _FRAGILE.sub(_protect_line, rest[end:])
