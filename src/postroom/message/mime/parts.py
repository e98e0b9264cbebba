"""The parts of a mail: texts, attachments and attached messages, each in a suitable encoding.

No line of a part is changed on its way, and none begins like a boundary of the mail around it.
"""

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

#: The longest line (RFC 5322 section 2.1.1).
MAX_LINE = 998

#: Bytes that need no encoding.
_PLAIN = bytes((0x09, 0x0A, *range(0x20, 0x7F)))
#: What mail systems change in a plain line: dots are doubled, "From " becomes ">From ", spaces at
#: the end are removed. And the beginning of a boundary of ours. The expression begins with a
#: newline, so that `re` only looks there: five times as fast as five searches.
_FRAGILE = re.compile(rb"\n(?:\.|From |--=_|(?<=[ \t]\n))")
_BEYOND_ASCII = bytes(range(0x80, 0x100))

_PLAIN_VALUE = re.compile(r"[ !#-\[\]-~]{1,60}")
_ATTRIBUTE = frozenset(f"{ascii_letters}{digits}!#$&+-.^_`{{}}~".encode())
_NOT_PORTABLE = re.compile(r"[^A-Za-z0-9._ -]")

#: The most characters of one piece of a long value: it fits into a line with ``filename*10*=``.
_MAX_PIECE = 56
_MAX_FALLBACK = 50

#: The parser and generator of Python need four more frames for each level.
MAX_LEVELS = 100

_LEVEL = re.compile(rb"^content-type:\s*(?:multipart|message)/", re.IGNORECASE | re.MULTILINE)
#: Its parts are messages although their headers do not say so (RFC 2046 section 5.1.5).
_DIGEST = re.compile(rb"multipart/digest", re.IGNORECASE)
_FRAGILE_LINE = re.compile(r"^(?:\.|From )", re.MULTILINE)
_IDENTITY_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})
#: Does not change headers, however long their lines are.
_VERBATIM = compat32.clone(linesep="\r\n", max_line_length=0)


def text_part(subtype: str, text: str) -> Entity:
    """Return a text part: in 7bit if that is safe, else in the shorter of the two encodings.

    Args:
        subtype: ``plain`` or ``html``.
        text: The text, with any line ends.

    Raises:
        MessageError: It contains a lone surrogate, which cannot be encoded.
    """
    octets = _encode(_with_lf(text), subtype)
    if _is_safe(octets):
        encoding, body = b"7bit", octets.replace(b"\n", b"\r\n")
    else:
        encoding, body = _shorter_encoding(octets)
    head = b"Content-Type: text/%b; charset=utf-8\r\nContent-Transfer-Encoding: %b\r\n\r\n"
    return [head % (subtype.encode("ascii"), encoding) + body]


def attachment_part(part: StoredAttachment, boundary: str) -> Entity:
    """Return a stored attachment; it is read and encoded while the mail is written.

    An attached message is also read now, to find out whether it can be written as it is.

    Args:
        part: The stored attachment.
        boundary: What every boundary around it begins with.

    Raises:
        InvalidHeader: Its media type cannot be written.
    """
    content_type = check_line(part.content_type, f"the content type of {part.filename}")
    if content_type.startswith(("message/", "multipart/")):
        if body := message_part(part, boundary):
            return [head(part, content_type, "7bit"), body]
        content_type = "application/octet-stream"
    return [head(part, content_type, "base64"), Base64Stream(part)]


@dataclass(frozen=True, slots=True)
class Base64Stream:
    """The body of an attachment in base64.

    Attributes:
        part: The stored attachment.
        ends_with_crlf: True: the CRLF at its end belongs to the encoding.
    """

    part: StoredAttachment
    ends_with_crlf: bool = True

    @property
    def size_bytes(self) -> int:
        """Return the size of the body, computed without reading it."""
        return encodings.encoded_size(self.part.size_bytes)

    def chunks(self) -> Iterator[bytes]:
        """Yield whole lines, in pieces of at most 256 KiB."""
        return encodings.encode_base64(self.part.open())


def head(part: StoredAttachment, content_type: str, encoding: str) -> bytes:
    """Return the header of an attachment and the blank line after it.

    Args:
        part: The stored attachment.
        content_type: The media type to write.
        encoding: The transfer encoding to write.

    Raises:
        InvalidHeader: The media type does not fit into a line.
    """
    lines = [fold(f"Content-Type: {content_type}"), f"Content-Transfer-Encoding: {encoding}\r\n"]
    if part.disposition is not Disposition.ALTERNATIVE:
        lines.append(disposition_field(part.disposition, part.filename))
    if part.content_id is not None:
        lines.append(f"Content-ID: <{part.content_id}>\r\n")
    return "".join((*lines, "\r\n")).encode("ascii")


def _with_lf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _encode(text: str, subtype: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise MessageError(
            f"the text/{subtype} body must not contain a lone surrogate: {text[error.start]!r} at "
            f"character {error.start}"
        ) from None


def _is_safe(octets: bytes) -> bool:
    """Return whether no mail system changes a line of ``octets``."""
    return (
        not octets.translate(None, _PLAIN)
        and not _FRAGILE.search(b"\n%b\n" % octets)
        and (len(octets) <= MAX_LINE or max(map(len, octets.split(b"\n"))) <= MAX_LINE)
    )


def _shorter_encoding(octets: bytes) -> tuple[bytes, bytes]:
    canonical = octets.replace(b"\n", b"\r\n")
    size = encodings.encoded_size(len(canonical))
    # Every byte that is not ASCII takes three in quoted-printable.
    quoted_at_least = len(canonical) + 2 * (
        len(octets) - len(octets.translate(None, _BEYOND_ASCII))
    )
    if quoted_at_least <= size:
        quoted = encodings.encode_quoted_printable(octets)
        if len(quoted) <= size:
            return b"quoted-printable", quoted
    return b"base64", encodings.encode_bytes(canonical)[:-2]


def disposition_field(disposition: str, filename: str) -> str:
    """Return the Content-Disposition field (RFC 2183).

    A name that is not ASCII is written as in RFC 2231, and again in ASCII for readers that only
    know ``filename=``.

    Args:
        disposition: ``attachment`` or ``inline``.
        filename: The name of the file.
    """
    # One line for each parameter: a name is never folded at its spaces, some readers join them.
    return (
        ";\r\n ".join((f"Content-Disposition: {disposition}", *_filename_parameters(filename)))
        + "\r\n"
    )


def _filename_parameters(filename: str) -> Iterator[str]:
    if _PLAIN_VALUE.fullmatch(filename) and "=?" not in filename:
        yield f'filename="{filename}"'
        return
    pieces = list(_percent_encoded(filename))
    if len(pieces) == 1:
        yield f"filename*={pieces[0]}"
    else:
        yield from (f"filename*{number}*={piece}" for number, piece in enumerate(pieces))
    yield f'filename="{_ascii_filename(filename)}"'


def _percent_encoded(value: str) -> Iterator[str]:
    """Yield ``value`` percent-encoded (RFC 2231 section 4), in pieces of whole characters."""
    piece = "utf-8''"
    for character in value:
        quoted = "".join(
            chr(octet) if octet in _ATTRIBUTE else f"%{octet:02X}" for octet in character.encode()
        )
        if len(piece) + len(quoted) > _MAX_PIECE:
            yield piece
            piece = ""
        piece += quoted
    yield piece


def _ascii_filename(filename: str) -> str:
    """Return a name in ASCII: without accents, other characters replaced, with its extension."""
    stem, dot, extension = filename.rpartition(".")
    if not dot:
        stem, extension = filename, ""
    plain = _ascii(stem)[:_MAX_FALLBACK].strip(" .") or "attachment"
    return f"{plain}.{_ascii(extension)[:8]}".rstrip(" .")


def _ascii(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return _NOT_PORTABLE.sub("_", letters)


class NotEmbeddable(ValueError):
    """The message cannot be attached without an encoding."""


@dataclass(frozen=True, slots=True)
class MessagePart:
    """The body of an attached message; all of its lines end with CRLF.

    Attributes:
        part: The stored attachment.
        boundary: What every boundary around it begins with.
        size_bytes: The size of the body.
        ends_with_crlf: False: the CRLF at its end is content.
    """

    part: StoredAttachment
    boundary: str
    size_bytes: int
    ends_with_crlf: bool = False

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in whole lines."""
        return _lines(self.part.open(), self.boundary)


def message_part(part: StoredAttachment, boundary: str) -> Segment | None:
    """Return an attached message as a body without an encoding; None if that is not possible.

    The message is read once. Only one whose parts have to be encoded is held in memory.

    Args:
        part: The stored attachment.
        boundary: What every boundary around it begins with.
    """
    try:
        size_bytes = sum(map(len, _lines(part.open(), boundary)))
        return MessagePart(part, boundary, size_bytes)
    except NotEmbeddable:
        if not part.content_type.startswith("message/rfc822"):
            return None
    try:
        return b"".join(_lines([_reencode_message(b"".join(part.open()))], boundary))
    except NotEmbeddable:
        return None


def _lines(chunks: Iterable[bytes], boundary: str) -> Iterator[bytes]:
    delimiter = f"\n--{boundary}".encode("ascii")
    rest = b""
    for chunk in chunks:
        whole, newline, rest = (rest + chunk).rpartition(b"\n")
        if newline:
            yield _check_lines(whole + newline, delimiter)
        if len(rest) > MAX_LINE + 1:
            raise NotEmbeddable("a line is too long")
    if rest:
        yield _check_lines(rest + b"\n", delimiter)


def _check_lines(lines: bytes, delimiter: bytes) -> bytes:
    lines = lines.replace(b"\r\n", b"\n")
    before = b"\n" + lines
    if not lines.isascii() or b"\0" in lines or b"\r" in lines:
        raise NotEmbeddable("it is not plain text")
    if b"\n." in before or b"\nFrom " in before or delimiter in before:
        raise NotEmbeddable("a line begins like a boundary, or would be changed on the way")
    if max(map(len, lines.split(b"\n"))) > MAX_LINE:
        raise NotEmbeddable("a line is too long")
    return lines.replace(b"\n", b"\r\n")


def _reencode_message(octets: bytes) -> bytes:
    """Return a message whose unencoded parts are in quoted-printable."""
    if b"\r" in octets.replace(b"\r\n", b""):
        raise NotEmbeddable("it has a CR without LF, which the parser reads as the end of a line")
    if len(_LEVEL.findall(octets)) + len(_DIGEST.findall(octets)) > MAX_LEVELS:
        raise NotEmbeddable("it may be nested too deeply for the parser")
    message = email.message_from_bytes(octets, policy=_VERBATIM)
    for part in message.walk():
        if any(not str(value).isascii() for value in part.values()):
            raise NotEmbeddable("a header is not ASCII")
        if not part.is_multipart():
            _reencode(part)
    return message.as_bytes()


def _reencode(part: Message) -> None:
    encoding = str(part.get("Content-Transfer-Encoding", "")).strip().lower()
    if encoding == "quoted-printable":
        if not _FRAGILE_LINE.search(str(part.get_payload())):
            return
    elif encoding not in _IDENTITY_ENCODINGS:
        return
    octets = part.get_payload(decode=True)
    assert isinstance(octets, bytes)
    quoted = encodings.encode_quoted_printable(octets.replace(b"\r\n", b"\n"))
    del part["Content-Transfer-Encoding"]
    part["Content-Transfer-Encoding"] = "quoted-printable"
    part.set_payload(quoted.decode("ascii"))
