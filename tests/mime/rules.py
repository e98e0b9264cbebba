"""The rules that every composed message keeps, checked octet by octet.

Written from the RFCs alone; nothing here calls what it checks.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import Counter
from collections.abc import Iterator

_FIELD = re.compile(rb"([!-9;-~]+):(.*)", re.DOTALL)
_ENCODED_WORD = re.compile(rb"=\?utf-8\?([bq])\?([!->@-~]*)\?=")
_QUOTED_PRINTABLE = re.compile(rb"(?:[\t !-<>-~]|=[0-9A-F]{2})*=?")
_ONCE = (b"date", b"from", b"subject", b"message-id", b"mime-version", b"auto-submitted")
_AT_MOST_ONCE = (
    b"to cc reply-to sender in-reply-to references list-id list-unsubscribe content-type "
    b"content-transfer-encoding content-disposition content-id importance"
).split()
Fields = list[tuple[bytes, bytes]]


def violations(raw: bytes, *, smtputf8: bool = False) -> list[str]:
    """Return which rules ``raw`` breaks, each in a sentence."""
    return list(_violations(raw, smtputf8))


def violations_of_word(word: bytes) -> list[str]:
    """Return which rules an encoded-word breaks."""
    return list(_word_violations(word))


def violations_of_leaf(encoding: bytes, body: bytes) -> list[str]:
    """Return which rules the body of a part breaks, encoded in ``encoding``."""
    return list(_leaf_violations(encoding, body))


def _violations(raw: bytes, smtputf8: bool) -> Iterator[str]:
    if b"\n" in raw.replace(b"\r\n", b"") or b"\r" in raw.replace(b"\r\n", b""):
        yield "a line ends in something else than CRLF"
    if not raw.endswith(b"\r\n"):
        yield "the last line is not ended"
    if b"\0" in raw:
        yield "there is a NUL"
    for line in raw.split(b"\r\n"):
        if len(line) > 998:
            yield f"a line has {len(line)} octets"
        if line.startswith(b"."):
            yield "a line starts with a dot"
        if line.startswith(b"From "):
            yield 'a line starts with "From "'
    head, _, body = raw.partition(b"\r\n\r\n")
    if not smtputf8 and not head.isascii():
        yield "a header has 8-bit octets"
    if not body.isascii():
        yield "the body has 8-bit octets"
    yield from _header_violations(head, smtputf8)
    names = Counter(name.lower() for name, _ in fields(head))
    yield from (f"{name!r} occurs {names[name]} times" for name in _ONCE if names[name] != 1)
    if names[b"bcc"]:
        yield "there is a Bcc"
    yield from _entity_violations(fields(head), body, [])


def fields(head: bytes) -> Fields:
    """Return the header fields, unfolded."""
    found = []
    for line in re.sub(rb"\r\n([ \t])", rb"\1", head).split(b"\r\n"):
        match = _FIELD.fullmatch(line)
        assert match, f"not a header field: {line!r}"
        found.append((match[1], match[2].strip(b" ")))
    return found


def field(found: Fields, name: bytes, default: bytes = b"") -> bytes:
    """Return the value of the field ``name``."""
    return next((value for key, value in found if key.lower() == name), default)


def _header_violations(head: bytes, smtputf8: bool) -> Iterator[str]:
    for line in head.split(b"\r\n"):
        yield from _line_violations(line, smtputf8)
    names = Counter(name.lower() for name, _ in fields(head))
    for name in _AT_MOST_ONCE:
        if names[name] > 1:
            yield f"{name!r} occurs {names[name]} times"
    for name, value in fields(head):
        if name.lower() in {b"from", b"to", b"cc", b"reply-to", b"sender"}:
            for addr_spec in re.findall(rb"<[^<>]*>", re.sub(rb'"(?:\\.|[^"\\])*"', b"", value)):
                if b"=?utf-8?" in addr_spec:
                    yield "an encoded-word stands in an addr-spec"
        if re.search(rb"\?b\?[^ ?]*=\?=[ \t]+=\?", value):
            yield f"base64 is padded before another encoded-word in {name!r}"
        if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value):
            yield f"{name!r} holds a control character"


def _line_violations(line: bytes, smtputf8: bool) -> Iterator[str]:
    if line.strip(b" \t") == b"":
        yield "a header line is blank"
    length = len(line.decode()) if smtputf8 else len(line)
    if length > 78:
        words = line.split(b": ", 1)[1] if not line.startswith(b" ") else line.strip(b" ")
        if b" " in words:
            yield f"a line of {length} could have been folded: {line!r}"
    for word in re.findall(rb"=\?utf-8\?[bq]\?[^ ?]*\?=", line):
        yield from _word_violations(word)
        if length > 76:
            yield "a line with an encoded-word is longer than 76"


def _word_violations(word: bytes) -> Iterator[str]:
    match = _ENCODED_WORD.fullmatch(word)
    if len(word) > 75 or not match:
        yield f"an encoded-word is malformed or too long: {word!r}"
        return
    try:
        if match[1] == b"b":
            octets = base64.b64decode(match[2], validate=True)
        else:
            octets = binascii.a2b_qp(match[2], header=True)
        octets.decode()
    except ValueError as error:
        yield f"an encoded-word splits a character: {word!r} ({error})"


def _entity_violations(found: Fields, body: bytes, around: list[bytes]) -> Iterator[str]:
    content_type = field(found, b"content-type", b"text/plain")
    encoding = field(found, b"content-transfer-encoding", b"7bit")
    if not content_type.startswith((b"multipart/", b"message/rfc822")):
        yield from _leaf_violations(encoding, body)
        return
    if encoding != b"7bit":
        yield f"{content_type!r} is encoded in {encoding!r}"
    if content_type.startswith(b"message/rfc822"):
        yield from (f"{b!r} occurs in a message" for b in around if b"\r\n--" + b in body)
        return
    match = re.search(rb'boundary="([^"]{1,70})"', content_type)
    assert match, content_type
    yield from _multipart_violations(match[1], body, around)


def _multipart_violations(boundary: bytes, body: bytes, around: list[bytes]) -> Iterator[str]:
    for outer in around:
        if boundary.startswith(outer) or outer.startswith(boundary):
            yield "a boundary begins like one around it"
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if pieces[0] or pieces[-1] != b"--\r\n":
        yield f"text stands before the first or behind the last part: {pieces[-1]!r}"
    for piece in pieces[1:-1]:
        if not piece.startswith(b"\r\n"):
            yield f"the boundary occurs in a part: {piece[:20]!r}"
        head, blank, inner = piece[2:].partition(b"\r\n\r\n")
        if not head.isascii():
            yield "a part's header has 8-bit octets"
        yield from _header_violations(head.removesuffix(b"\r\n"), smtputf8=False)
        content = inner if blank else b""
        yield from _entity_violations(
            fields(head.removesuffix(b"\r\n")), content, [*around, boundary]
        )


def _leaf_violations(encoding: bytes, body: bytes) -> Iterator[str]:
    lines = body.split(b"\r\n")
    if encoding == b"7bit":
        if any(line.endswith((b" ", b"\t")) for line in lines):
            yield "a plain line ends in a space"
        if any(line.startswith(b"From ") for line in lines):
            yield 'a plain line starts with "From "'
    elif encoding == b"quoted-printable":
        for line in lines:
            if len(line) > 76 or not _QUOTED_PRINTABLE.fullmatch(line):
                yield f"not quoted-printable: {line!r}"
            if line.endswith((b" ", b"\t")) or line.startswith(b"From "):
                yield f"not safe in quoted-printable: {line!r}"
    elif encoding == b"base64":
        if any(len(line) > 76 for line in lines):
            yield "a line of base64 is longer than 76"
        base64.b64decode(body.replace(b"\r\n", b""), validate=True)
    else:
        yield f"the encoding is {encoding!r}"
