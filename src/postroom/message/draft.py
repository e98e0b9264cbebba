"""From a message as it was written to a draft with nothing left open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from postroom.errors import MessageError
from postroom.message.address import Address
from postroom.message.html_text import html_to_text
from postroom.message.message import Disposition, Draft, Message, StoredAttachment, rendered_subject
from postroom.message.mime import check
from postroom.message.templates import FrozenTemplate, Meter, Template, Templates, freeze
from postroom.message.validation import parse_address, parse_addresses, storable_text


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueContext:
    """What a message takes from where and when it is enqueued.

    ``sender`` is for a message that brings none. ``token`` is 32 hexadecimal digits, different
    for each message; ``date`` is aware.
    """

    sender: Address | None
    templates: Templates
    message_id_seed: str
    date: datetime


def make_draft(
    message: Message,
    occasion: EnqueueContext,
    *,
    parts: Sequence[StoredAttachment],
    has_variables: bool,
) -> Draft:
    """Return the draft of ``message``, its attachments being ``parts``.

    HTML alone gets its text beside it. Templates are rendered, or frozen where
    ``has_variables`` says that recipients bring some.
    The draft is for separate copies; replace ``to``, ``cc`` and ``together`` for another.

    What a worker could not write is refused here: nothing is accepted now and rejected later.

    Raises:
        MessageError: there is no sender, a template fails, or renders to what cannot be sent.
    """
    frozen = partial(
        _frozen,
        templates=occasion.templates,
        has_variables=has_variables,
        inline=_inline(parts),
        meter=occasion.templates.budget.meter(),
    )
    subject = frozen(message.subject, html=False) or ""
    text, html = frozen(message.text, html=False), frozen(message.html, html=True)
    if text is None and isinstance(html, str):
        text = html_to_text(html)
    draft = Draft(
        message_id_seed=occasion.message_id_seed,
        date=occasion.date,
        sender=_sender(message, occasion),
        subject=rendered_subject(subject) if isinstance(subject, str) else subject,
        text=storable_text(text, "the text") if isinstance(text, str) else text,
        html=storable_text(html, "the html") if isinstance(html, str) else html,
        headers=message.extra_headers,
        reply_to=parse_addresses(message.reply_to, "reply_to"),
        attachments=tuple(parts),
    )
    check(draft)
    return draft


def _sender(message: Message, occasion: EnqueueContext) -> Address:
    sender = message.sender or occasion.sender
    if sender is None:
        raise MessageError(
            "expected the message or the outbox to have a sender, got: none; set Message(sender=…) "
            "or Outbox(sender=…)"
        )
    return parse_address(sender)


def _frozen(
    value: str | Template | None,
    *,
    html: bool,
    templates: Templates,
    has_variables: bool,
    inline: Mapping[str, str],
    meter: Meter,
) -> str | FrozenTemplate | None:
    if value is None:
        return None
    return freeze(
        value, templates, html=html, has_variables=has_variables, inline=inline, meter=meter
    )


def _inline(parts: Sequence[StoredAttachment]) -> dict[str, str]:
    """Return the content id of each inline image by its file name."""
    return {
        part.filename: part.content_id
        for part in parts
        if part.disposition is Disposition.INLINE and part.content_id
    }
