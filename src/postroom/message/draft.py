"""Turns a message into a draft: everything that has to be decided at enqueue is decided.

What a worker could not send is refused here; nothing is accepted now and rejected later.
"""

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
    """What a message takes from the place and time at which it is enqueued.

    Attributes:
        sender: The sender of messages that name none; None: there is no such sender.
        templates: Where templates are found.
        message_id_seed: 32 hexadecimal digits, different for each message.
        date: The time of the Date header, with a time zone.
    """

    sender: Address | None
    templates: Templates
    message_id_seed: str
    date: datetime


def make_draft(
    message: Message,
    context: EnqueueContext,
    *,
    parts: Sequence[StoredAttachment],
    has_variables: bool,
) -> Draft:
    """Return the draft of ``message``.

    HTML alone gets its text. The draft is for separate copies; for a shared one, replace ``to``,
    ``cc`` and ``shared``.

    Args:
        message: The message.
        context: The sender, templates, seed and date to use.
        parts: The stored attachments of the message.
        has_variables: Freeze templates for delivery, because recipients have variables.

    Raises:
        MessageError: There is no sender, a template fails, or its output cannot be sent.
    """
    frozen = partial(
        _frozen,
        templates=context.templates,
        has_variables=has_variables,
        inline=_inline(parts),
        meter=context.templates.budget.meter(),
    )
    subject = frozen(message.subject, html=False) or ""
    text, html = frozen(message.text, html=False), frozen(message.html, html=True)
    if text is None and isinstance(html, str):
        text = html_to_text(html)
    draft = Draft(
        message_id_seed=context.message_id_seed,
        date=context.date,
        sender=_sender(message, context),
        subject=rendered_subject(subject) if isinstance(subject, str) else subject,
        text=storable_text(text, "the text") if isinstance(text, str) else text,
        html=storable_text(html, "the html") if isinstance(html, str) else html,
        headers=message.extra_headers,
        reply_to=parse_addresses(message.reply_to, "reply_to"),
        attachments=tuple(parts),
    )
    check(draft)
    return draft


def _sender(message: Message, context: EnqueueContext) -> Address:
    sender = message.sender or context.sender
    if sender is None:
        raise MessageError("the message has no sender; set Message(sender=…) or Outbox(sender=…)")
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
