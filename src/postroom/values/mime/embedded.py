"""Attached messages, which no encoding may wrap (RFC 2046 section 5.2.1).

A message/rfc822 part is written as it is, so that it must be what the rest of our bytes are: 7-bit,
in lines of at most 998 octets none of which begins with a dot or with "From ". Where one is not,
its own parts are encoded; what cannot even then be written so travels as a file, octet for octet.
"""

from __future__ import annotations

import email
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from email.policy import compat32

from postroom.values.message import Part
from postroom.values.mime import quoted_printable
from postroom.values.mime.entity import Segment

MAX_LINE = 998

#: Python's parser and generator go four frames deeper for each level.
MAX_LEVELS = 100

_LEVEL = re.compile(rb"^content-type:\s*(?:multipart|message)/", re.IGNORECASE | re.MULTILINE)
#: Its parts are messages without saying so.
_DIGEST = re.compile(rb"multipart/digest", re.IGNORECASE)
_FRAGILE = re.compile(r"^(?:\.|From )", re.MULTILINE)
_IDENTITIES = frozenset({"", "7bit", "8bit", "binary"})
#: Keeps headers letter for letter, however long their lines.
_VERBATIM = compat32.clone(linesep="\r\n", max_line_length=0)


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


def embedded(part: Part, boundary: str) -> Segment | None:
    """Return ``part`` as a body that needs no encoding, or None where there is none.

    It is read once, to see; only one whose parts must be encoded is held whole. ``boundary`` is
    what every boundary around it begins with.
    """
    try:
        size_bytes = sum(map(len, _lines(part.open(), boundary)))
        return Embedded(part, boundary, size_bytes)
    except Unfit:
        if not part.content_type.startswith("message/rfc822"):
            return None
    try:
        return b"".join(_lines([_recoded(b"".join(part.open()))], boundary))
    except Unfit:
        return None


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
    if b"\n." in before or b"\nFrom " in before or delimiter in before:
        raise Unfit("a line begins like one of the transport's or of ours")
    if max(map(len, lines.split(b"\n"))) > MAX_LINE:
        raise Unfit("a line is too long")
    return lines.replace(b"\n", b"\r\n")


def _recoded(octets: bytes) -> bytes:
    """Return a message with every part that is not encoded in quoted-printable."""
    if b"\r" in octets.replace(b"\r\n", b""):
        raise Unfit("a CR stands alone; the parser would take it for the end of a line")
    if len(_LEVEL.findall(octets)) + len(_DIGEST.findall(octets)) > MAX_LEVELS:
        raise Unfit("it may be nested too deeply for the parser")
    message = email.message_from_bytes(octets, policy=_VERBATIM)
    for part in message.walk():
        if any(not str(value).isascii() for value in part.values()):
            raise Unfit("a header is not ASCII")
        if not part.is_multipart():
            _recode(part)
    return message.as_bytes()


def _recode(part: Message) -> None:
    encoding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
    if encoding == "quoted-printable":
        if not _FRAGILE.search(str(part.get_payload())):
            return
    elif encoding not in _IDENTITIES:
        return
    octets = part.get_payload(decode=True)
    assert isinstance(octets, bytes)
    quoted = quoted_printable.encode(octets.replace(b"\r\n", b"\n"))
    del part["Content-Transfer-Encoding"]
    part["Content-Transfer-Encoding"] = "quoted-printable"
    part.set_payload(quoted.decode("ascii"))
