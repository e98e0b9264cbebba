"""Write a draft as bytes: its headers, and the parts in as few levels as they need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from postroom.errors import InvalidHeader
from postroom.message.address import Address
from postroom.message.headers import SINGLE, is_reserved
from postroom.message.message import Disposition, Draft, StoredAttachment
from postroom.message.mime.content import Content, Entity, Segment, multipart
from postroom.message.mime.fields import address_field, custom_field, date_field, subject_field
from postroom.message.mime.parts import attachment_part, head, text_part
from postroom.message.templates import FrozenTemplate


def message_id_for(token: str, recipient_id: int | None, sender: Address) -> str:
    """Return the Message-ID of one copy (RFC 5322 section 3.6.4), in angle brackets.

    ``recipient_id`` is None for a message that all its recipients receive together.
    """
    copy = token if recipient_id is None else f"{token}.{recipient_id}"
    return f"<{copy}@{sender.ascii_domain}>"


#: RFC 3834 section 5: nobody's vacation reply is wanted.
_AUTO_SUBMITTED = "Auto-Submitted: auto-generated\r\n"


def compose(draft: Draft) -> Content:
    """Return the content of ``draft``, every template of which has been rendered.

    The same draft gives the same bytes. Attachments are not read before the tail is, but for
    attached messages, through which it looks once.

    Raises:
        InvalidHeader: a header cannot be written, or one that may occur once is there twice.
        MessageError: a body holds a lone surrogate.
    """
    _literal(draft.subject)
    headers = "".join(_headers(draft)).encode()
    segments = _joined([headers, *_body(draft)])
    return Content(
        segments=segments,
        tail_size_bytes=sum(map(_size, segments)),
        needs_smtputf8=not headers.isascii(),
    )


def check(draft: Draft) -> None:
    """Refuse what `compose` would refuse in a header, or what no relay could be told.

    Bodies are left out: nothing in a text that can be stored cannot be written. So is a subject
    that is still to be rendered.

    Raises:
        InvalidHeader: a header cannot be written, or one that may occur once is there twice.
    """
    for _ in _headers(draft):
        pass
    for part in draft.attachments:
        head(part, part.content_type, "7bit")


def _headers(draft: Draft) -> Iterator[str]:
    yield date_field(draft.date)
    yield address_field("From", (draft.sender,))
    if draft.reply_to:
        yield address_field("Reply-To", draft.reply_to)
    if draft.shared:
        yield address_field("To", draft.to) if draft.to else "To: undisclosed-recipients:;\r\n"
        if draft.cc:
            yield address_field("Cc", draft.cc)
    if isinstance(draft.subject, str):
        yield subject_field(draft.subject)
    if draft.headers:
        yield from _custom(draft.headers)
    else:
        yield _AUTO_SUBMITTED
    yield "MIME-Version: 1.0\r\n"


def _custom(headers: Sequence[tuple[str, str]]) -> Iterator[str]:
    seen: set[str] = set()
    for name, value in headers:
        lower = name.lower()
        if is_reserved(lower) or (lower in SINGLE and lower in seen):
            raise InvalidHeader(f"expected the header {name} to be given once, got: another one")
        seen.add(lower)
        yield custom_field(name, value)
    if "auto-submitted" not in seen:
        yield _AUTO_SUBMITTED


def _body(draft: Draft) -> Entity:
    """Return mixed > related > alternative, only the levels that are needed."""
    boundary = f"=_{draft.message_id_seed}"
    inline, alternatives, attached = _sorted(draft)
    texts = _texts(draft)
    texts += [attachment_part(part, boundary) for part in alternatives]
    body = _wrapped("alternative", f"{boundary}.a", texts)
    if inline:
        kind = "multipart/alternative" if len(texts) > 1 else "text/html"
        related = [body, *(attachment_part(part, boundary) for part in inline)]
        body = multipart(f'related; type="{kind}"', f"{boundary}.r", related)
    parts = [body, *(attachment_part(part, boundary) for part in attached)]
    return _wrapped("mixed", f"{boundary}.m", parts)


def _texts(draft: Draft) -> list[Entity]:
    texts: list[Entity] = []
    if draft.text is not None or draft.html is None:
        texts.append(text_part("plain", _literal(draft.text or "")))
    if draft.html is not None:
        texts.append(text_part("html", _literal(draft.html)))
    return texts


def _sorted(
    draft: Draft,
) -> tuple[list[StoredAttachment], list[StoredAttachment], list[StoredAttachment]]:
    inline: list[StoredAttachment] = []
    alternatives: list[StoredAttachment] = []
    attached: list[StoredAttachment] = []
    for part in draft.attachments:
        if part.disposition is Disposition.ALTERNATIVE:
            alternatives.append(part)
        elif part.disposition is Disposition.INLINE and draft.html is not None:
            inline.append(part)
        else:
            attached.append(part)
    return inline, alternatives, attached


def _wrapped(subtype: str, boundary: str, parts: Sequence[Entity]) -> Entity:
    return parts[0] if len(parts) == 1 else multipart(subtype, boundary, parts)


def _joined(segments: Entity) -> tuple[Segment, ...]:
    """Return ``segments`` with neighbouring bytes in one, the last of them ended by CRLF."""
    joined: list[Segment] = []
    for is_bytes, group in groupby(segments, key=lambda segment: isinstance(segment, bytes)):
        if is_bytes:
            joined.append(b"".join(group))  # type: ignore[arg-type]
        else:
            joined.extend(group)
    last = joined[-1]
    if isinstance(last, bytes) and not last.endswith(b"\r\n"):
        joined[-1] = last + b"\r\n"
    return tuple(joined)


def _size(segment: Segment) -> int:
    return len(segment) if isinstance(segment, bytes) else segment.size_bytes


def _literal(value: str | FrozenTemplate) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a draft with nothing left to render; call draft.rendered(…)")
    return value
