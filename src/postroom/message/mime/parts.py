"""Leaf parts: a text in the encoding that suits it, and attachments as streams."""

from __future__ import annotations

import email
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from email.policy import compat32
from string import ascii_letters, digits

from postroom.errors import MessageError
from postroom.message.message import Disposition, StoredAttachment
from postroom.message.mime import encodings
from postroom.message.mime.content import Entity, Segment
from postroom.message.mime.fields import fold
from postroom.text import check_line

_PLAIN_VALUE = re.compile(r"[ !#-\[\]-~]{1,60}")
_ATTRIBUTE = frozenset(f"{ascii_letters}{digits}!#$&+-.^_`{{}}~".encode())
_NOT_PORTABLE = re.compile(r"[^A-Za-z0-9._ -]")

#: One piece of a long value: with ``filename*10*=`` before it, it fits a folded line.
_ROOM = 56
_FALLBACK_LENGTH = 50


def disposition_field(disposition: str, filename: str) -> str:
    """Return Content-Disposition with the file's name (RFC 2183).

    A name beyond ASCII is written by RFC 2231, and after it once more in ASCII for readers that
    know only ``filename=``.
    """
    # A line each: spaces inside a name are not a place to fold, some readers squeeze them.
    return ";\r\n ".join((f"Content-Disposition: {disposition}", *_filename(filename))) + "\r\n"


def _filename(filename: str) -> Iterator[str]:
    if _PLAIN_VALUE.fullmatch(filename) and "=?" not in filename:
        yield f'filename="{filename}"'
        return
    pieces = list(_extended(filename))
    if len(pieces) == 1:
        yield f"filename*={pieces[0]}"
    else:
        yield from (f"filename*{number}*={piece}" for number, piece in enumerate(pieces))
    yield f'filename="{_fallback(filename)}"'


def _extended(value: str) -> Iterator[str]:
    """Yield ``value`` percent-encoded, in pieces that each hold whole characters."""
    piece = "utf-8''"
    for character in value:
        quoted = "".join(
            chr(octet) if octet in _ATTRIBUTE else f"%{octet:02X}" for octet in character.encode()
        )
        if len(piece) + len(quoted) > _ROOM:
            yield piece
            piece = ""
        piece += quoted
    yield piece


def _fallback(filename: str) -> str:
    """Return a name in ASCII: accents dropped, the rest replaced, the extension kept."""
    stem, dot, extension = filename.rpartition(".")
    if not dot:
        stem, extension = filename, ""
    plain = _ascii(stem)[:_FALLBACK_LENGTH].strip(" .") or "attachment"
    return f"{plain}.{_ascii(extension)[:8]}".rstrip(" .")


def _ascii(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return _NOT_PORTABLE.sub("_", letters)


MAX_LINE = 998

#: Python's parser and generator go four frames deeper for each level.
MAX_LEVELS = 100

_LEVEL = re.compile(rb"^content-type:\s*(?:multipart|message)/", re.IGNORECASE | re.MULTILINE)
#: Its parts are messages without saying so.
_DIGEST = re.compile(rb"multipart/digest", re.IGNORECASE)
_FRAGILE_LINE = re.compile(r"^(?:\.|From )", re.MULTILINE)
_IDENTITIES = frozenset({"", "7bit", "8bit", "binary"})
#: Keeps headers letter for letter, however long their lines.
_VERBATIM = compat32.clone(linesep="\r\n", max_line_length=0)


class NotEmbeddable(ValueError):
    """The message cannot be written as it is."""


@dataclass(frozen=True, slots=True)
class MessagePart:
    """The body of an attached message, its lines ended by CRLF whatever they were."""

    part: StoredAttachment
    boundary: str
    size_bytes: int
    ends_with_crlf: bool = False

    def chunks(self) -> Iterator[bytes]:
        """Yield whole lines."""
        return _lines(self.part.open(), self.boundary)


def message_part(part: StoredAttachment, boundary: str) -> Segment | None:
    """Return ``part`` as a body that needs no encoding, or None where there is none.

    It is read once, to see; only one whose parts must be encoded is held whole. ``boundary`` is
    what every boundary around it begins with.
    """
    try:
        size_bytes = sum(map(len, _lines(part.open(), boundary)))
        return MessagePart(part, boundary, size_bytes)
    except NotEmbeddable:
        if not part.content_type.startswith("message/rfc822"):
            return None
    try:
        return b"".join(_lines([_recoded(b"".join(part.open()))], boundary))
    except NotEmbeddable:
        return None


def _lines(chunks: Iterable[bytes], boundary: str) -> Iterator[bytes]:
    delimiter = f"\n--{boundary}".encode("ascii")
    carried = b""
    for chunk in chunks:
        whole, newline, carried = (carried + chunk).rpartition(b"\n")
        if newline:
            yield _checked(whole + newline, delimiter)
        if len(carried) > MAX_LINE + 1:
            raise NotEmbeddable("a line is too long")
    if carried:
        yield _checked(carried + b"\n", delimiter)


def _checked(lines: bytes, delimiter: bytes) -> bytes:
    lines = lines.replace(b"\r\n", b"\n")
    before = b"\n" + lines
    if not lines.isascii() or b"\0" in lines or b"\r" in lines:
        raise NotEmbeddable("it is not plain text")
    if b"\n." in before or b"\nFrom " in before or delimiter in before:
        raise NotEmbeddable("a line begins like one of the transport's or of ours")
    if max(map(len, lines.split(b"\n"))) > MAX_LINE:
        raise NotEmbeddable("a line is too long")
    return lines.replace(b"\n", b"\r\n")


def _recoded(octets: bytes) -> bytes:
    """Return a message with every part that is not encoded in quoted-printable."""
    if b"\r" in octets.replace(b"\r\n", b""):
        raise NotEmbeddable("a CR stands alone; the parser would take it for the end of a line")
    if len(_LEVEL.findall(octets)) + len(_DIGEST.findall(octets)) > MAX_LEVELS:
        raise NotEmbeddable("it may be nested too deeply for the parser")
    message = email.message_from_bytes(octets, policy=_VERBATIM)
    for part in message.walk():
        if any(not str(value).isascii() for value in part.values()):
            raise NotEmbeddable("a header is not ASCII")
        if not part.is_multipart():
            _recode(part)
    return message.as_bytes()


def _recode(part: Message) -> None:
    encoding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
    if encoding == "quoted-printable":
        if not _FRAGILE_LINE.search(str(part.get_payload())):
            return
    elif encoding not in _IDENTITIES:
        return
    octets = part.get_payload(decode=True)
    assert isinstance(octets, bytes)
    quoted = encodings.encode_quoted_printable(octets.replace(b"\r\n", b"\n"))
    del part["Content-Transfer-Encoding"]
    part["Content-Transfer-Encoding"] = "quoted-printable"
    part.set_payload(quoted.decode("ascii"))


#: RFC 5322 section 2.1.1.
MAX_LINE = 998

#: What travels as it is. Any other octet calls for an encoding.
_PLAIN = bytes((0x09, 0x0A, *range(0x20, 0x7F)))
#: What mail systems change in a plain line: dots are doubled, "From " becomes ">From ", spaces
#: at the end vanish. And what a boundary of ours begins with. (It begins with a newline on
#: purpose: `re` then looks only there, five times as fast as five searches.)
_FRAGILE = re.compile(rb"\n(?:\.|From |--=_|(?<=[ \t]\n))")
_BEYOND_ASCII = bytes(range(0x80, 0x100))


def text_part(subtype: str, text: str) -> Entity:
    """Return ``text`` as text/``subtype``: 7bit where that is safe, else what is shorter.

    Raises:
        MessageError: it holds a lone surrogate, which has no octets.
    """
    octets = _octets(_with_lf(text), subtype)
    if _is_safe(octets):
        encoding, body = b"7bit", octets.replace(b"\n", b"\r\n")
    else:
        encoding, body = _encoded(octets)
    head = b"Content-Type: text/%b; charset=utf-8\r\nContent-Transfer-Encoding: %b\r\n\r\n"
    return [head % (subtype.encode("ascii"), encoding) + body]


def attachment_part(part: StoredAttachment, boundary: str) -> Entity:
    """Return a stored attachment in base64, to be read when it is written.

    A message is read now as well, to see whether it can be written as it is. ``boundary`` is what
    every boundary around it begins with.
    """
    content_type = check_line(part.content_type, f"the content type of {part.filename}")
    if content_type.startswith(("message/", "multipart/")):
        if body := message_part(part, boundary):
            return [head(part, content_type, "7bit"), body]
        content_type = "application/octet-stream"
    return [head(part, content_type, "base64"), Base64Stream(part)]


@dataclass(frozen=True, slots=True)
class Base64Stream:
    """An attachment's body."""

    part: StoredAttachment
    ends_with_crlf: bool = True

    @property
    def size_bytes(self) -> int:
        """The octets of its lines: arithmetic, nothing is read."""
        return encodings.encoded_size(self.part.size_bytes)

    def chunks(self) -> Iterator[bytes]:
        """Yield its lines in pieces of at most 256 KiB."""
        return encodings.encode_base64(self.part.open())


def head(part: StoredAttachment, content_type: str, encoding: str) -> bytes:
    """Return the header of an attachment, and the blank line.

    Raises:
        InvalidHeader: its media type does not fit a line.
    """
    lines = [fold(f"Content-Type: {content_type}"), f"Content-Transfer-Encoding: {encoding}\r\n"]
    if part.disposition is not Disposition.ALTERNATIVE:
        lines.append(disposition_field(part.disposition, part.filename))
    if part.content_id is not None:
        lines.append(f"Content-ID: <{part.content_id}>\r\n")
    return "".join((*lines, "\r\n")).encode("ascii")


def _with_lf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _octets(text: str, subtype: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise MessageError(
            f"expected the text/{subtype} body to be without lone surrogates, "
            f"got: {text[error.start]!r} at character {error.start}"
        ) from None


def _is_safe(octets: bytes) -> bool:
    """Tell whether every mail system leaves the lines of ``octets`` alone."""
    return (
        not octets.translate(None, _PLAIN)
        and not _FRAGILE.search(b"\n%b\n" % octets)
        and (len(octets) <= MAX_LINE or max(map(len, octets.split(b"\n"))) <= MAX_LINE)
    )


def _encoded(octets: bytes) -> tuple[bytes, bytes]:
    canonical = octets.replace(b"\n", b"\r\n")
    size = encodings.encoded_size(len(canonical))
    # Every octet beyond ASCII takes three in quoted-printable.
    at_least = len(canonical) + 2 * (len(octets) - len(octets.translate(None, _BEYOND_ASCII)))
    if at_least <= size:
        quoted = encodings.encode_quoted_printable(octets)
        if len(quoted) <= size:
            return b"quoted-printable", quoted
    return b"base64", encodings.encode_bytes(canonical)[:-2]
