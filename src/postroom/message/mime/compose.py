"""Composes a draft: its headers, and its parts in as few levels of multipart as they need.

It is done once for all copies of a message; each copy only adds its own To and Message-ID.
"""

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


def message_id_for(seed: str, recipient_id: int | None, sender: Address) -> str:
    """Return the Message-ID of one copy, in angle brackets (RFC 5322 section 3.6.4).

    Args:
        seed: The ``message_id_seed`` of the draft.
        recipient_id: The recipient of the copy; None for a shared message.
        sender: The sender; the Message-ID is in its domain.
    """
    left = seed if recipient_id is None else f"{seed}.{recipient_id}"
    return f"<{left}@{sender.ascii_domain}>"


#: Suppresses vacation replies (RFC 3834 section 5).
_AUTO_SUBMITTED = "Auto-Submitted: auto-generated\r\n"


def compose(draft: Draft) -> Content:
    """Return the content of ``draft``.

    Attachments are read later, with the tail; only attached messages are read once now too.

    Args:
        draft: The draft; all of its templates are rendered.

    Raises:
        InvalidHeader: A header cannot be written, or occurs twice but may occur once.
        MessageError: A body contains a lone surrogate.
    """
    _rendered(draft.subject)
    headers = "".join(_headers(draft)).encode()
    segments = _join_bytes([headers, *_body(draft)])
    return Content(
        segments=segments,
        tail_size_bytes=sum(map(_size, segments)),
        needs_smtputf8=not headers.isascii(),
    )


def check(draft: Draft) -> None:
    """Refuse a draft whose headers `compose` would refuse.

    Bodies are not checked: text that can be stored can be written. A subject that is rendered at
    delivery is not checked either.

    Args:
        draft: The draft, possibly with templates.

    Raises:
        InvalidHeader: A header cannot be written, or occurs twice but may occur once.
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
        yield from _custom_fields(draft.headers)
    else:
        yield _AUTO_SUBMITTED
    yield "MIME-Version: 1.0\r\n"


def _custom_fields(headers: Sequence[tuple[str, str]]) -> Iterator[str]:
    seen: set[str] = set()
    for name, value in headers:
        lower = name.lower()
        if is_reserved(lower) or (lower in SINGLE and lower in seen):
            raise InvalidHeader(f"the header {name} may be given once, not twice")
        seen.add(lower)
        yield custom_field(name, value)
    if "auto-submitted" not in seen:
        yield _AUTO_SUBMITTED


def _body(draft: Draft) -> Entity:
    """Return the parts as mixed > related > alternative, without levels that are not needed."""
    boundary = f"=_{draft.message_id_seed}"
    inline, alternatives, attached = _sort_attachments(draft)
    texts = _texts(draft)
    texts += [attachment_part(part, boundary) for part in alternatives]
    body = _wrap("alternative", f"{boundary}.a", texts)
    if inline:
        root_type = "multipart/alternative" if len(texts) > 1 else "text/html"
        related = [body, *(attachment_part(part, boundary) for part in inline)]
        body = multipart(f'related; type="{root_type}"', f"{boundary}.r", related)
    parts = [body, *(attachment_part(part, boundary) for part in attached)]
    return _wrap("mixed", f"{boundary}.m", parts)


def _texts(draft: Draft) -> list[Entity]:
    texts: list[Entity] = []
    if draft.text is not None or draft.html is None:
        texts.append(text_part("plain", _rendered(draft.text or "")))
    if draft.html is not None:
        texts.append(text_part("html", _rendered(draft.html)))
    return texts


def _sort_attachments(
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


def _wrap(subtype: str, boundary: str, parts: Sequence[Entity]) -> Entity:
    return parts[0] if len(parts) == 1 else multipart(subtype, boundary, parts)


def _join_bytes(segments: Entity) -> tuple[Segment, ...]:
    """Return ``segments`` with adjacent bytes joined; the last bytes end with CRLF."""
    result: list[Segment] = []
    for is_bytes, group in groupby(segments, key=lambda segment: isinstance(segment, bytes)):
        if is_bytes:
            result.append(b"".join(group))  # type: ignore[arg-type]
        else:
            result.extend(group)
    last = result[-1]
    if isinstance(last, bytes) and not last.endswith(b"\r\n"):
        result[-1] = last + b"\r\n"
    return tuple(result)


def _size(segment: Segment) -> int:
    return len(segment) if isinstance(segment, bytes) else segment.size_bytes


def _rendered(value: str | FrozenTemplate) -> str:
    if not isinstance(value, str):
        raise TypeError("the draft still has a template to render; call draft.rendered(…)")
    return value
