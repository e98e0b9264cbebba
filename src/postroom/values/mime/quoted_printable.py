"""Quoted-printable (RFC 2045 section 6.7), with what transports do to plain lines in mind."""

from __future__ import annotations

import binascii
import re

MAX_LINE = 76

#: A dot at the start of a line is doubled on the wire, and "From " becomes ">From " in mailboxes.
_FRAGILE = re.compile(rb"^(?:\.|From ).*", re.MULTILINE)


def encode(text: bytes) -> bytes:
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
