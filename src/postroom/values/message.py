"""A message as an application writes it, and the draft that becomes its bytes.

A `Message` says what is wished; a `Draft` is the same with nothing left open: addresses parsed,
defaults applied, templates rendered or frozen, attachments stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from datetime import datetime
from email.message import Message as ParsedMessage
from typing import Any, Self

from postroom.values import plain
from postroom.values.address import Address
from postroom.values.attachment import Attachment, Disposition
from postroom.values.checks import (
    address_of,
    addresses_of,
    aware,
    delays_of,
    headers_of,
    is_message_id,
    items_of,
    member,
    message_id_of,
    notice_of,
    once_each,
    storable,
    texts_of,
)
from postroom.values.envelope import DeliveryNotice
from postroom.values.errors import InvalidHeader, MessageError
from postroom.values.headers import checked_text, shown, unpasted
from postroom.values.states import Lane, OnDoubt
from postroom.values.template import (
    DEFAULT_BUDGET,
    RenderBudget,
    Template,
    TemplateSource,
    bundle,
)

__all__ = ["Disposition", "Draft", "Message", "Part", "Recipient"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is said, and how it is to be delivered. To whom is said at enqueue.

    A ``str`` is literal, always; only a `Template` is rendered. ``sender`` may be left to the
    outbox. ``headers`` are further ones, by name, or as pairs where a name repeats.
    ``reply_to_message`` is the Message-ID of the message this one answers, or that message as
    the standard library parsed it; it sets ``in_reply_to`` and ``references``.

    ``envelope_sender`` is where bounces go, if not to the sender; empty for nowhere. ``together``
    shows everyone to everyone, in one To and Cc. ``relay`` names a relay or route of the outbox.
    ``retry_delays`` are seconds between tries, in place of the worker's schedule.

    Raises:
        MessageError: a field holds what cannot be sent; its subclasses say what.
    """

    sender: str | Address | None = None
    subject: str | Template = ""
    text: str | Template | None = None
    html: str | Template | None = None
    attachments: Sequence[Attachment] = ()
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()
    reply_to: Sequence[str | Address] = ()
    in_reply_to: str | None = None
    references: Sequence[str] = ()
    reply_to_message: InitVar[str | ParsedMessage | None] = None
    envelope_sender: str | None = None
    together: bool = False
    lane: Lane = Lane.NORMAL
    relay: str | None = None
    on_doubt: OnDoubt = OnDoubt.RESEND
    not_before: datetime | None = None
    expires_at: datetime | None = None
    tags: Sequence[str] = ()
    retry_delays: Sequence[float] | None = None
    notice: DeliveryNotice | None = None

    def __post_init__(self, reply_to_message: str | ParsedMessage | None) -> None:
        """Parse, check and freeze every field."""
        for name, value in self._checked().items():
            object.__setattr__(self, name, value)
        if reply_to_message is not None:
            answered, thread = _thread_of(reply_to_message)
            object.__setattr__(self, "in_reply_to", answered)
            object.__setattr__(self, "references", thread)
        once_each(self.further_headers)
        if self.not_before and self.expires_at and self.expires_at <= self.not_before:
            raise MessageError(
                f"expected expires_at to be after not_before ({self.not_before.isoformat()}), "
                f"got: {self.expires_at.isoformat()}"
            )

    def _checked(self) -> dict[str, Any]:
        return {
            "sender": None if self.sender is None else address_of(self.sender),
            "subject": _subject(self.subject),
            "text": _body(self.text, "the text"),
            "html": _body(self.html, "the html"),
            "attachments": _attachments(self.attachments),
            "headers": headers_of(self.headers),
            "reply_to": addresses_of(self.reply_to, "reply_to"),
            "in_reply_to": None if self.in_reply_to is None else message_id_of(self.in_reply_to),
            "references": tuple(map(message_id_of, items_of(self.references, "references"))),
            "envelope_sender": _envelope_sender(self.envelope_sender),
            "together": _truth(self.together, "together"),
            "lane": member(Lane, self.lane, "the lane"),
            "relay": None if self.relay is None else _relay_name(self.relay),
            "on_doubt": member(OnDoubt, self.on_doubt, "on_doubt"),
            "not_before": aware(self.not_before, "not_before"),
            "expires_at": aware(self.expires_at, "expires_at"),
            "tags": texts_of(self.tags, "tags"),
            "retry_delays": delays_of(self.retry_delays),
            "notice": notice_of(self.notice),
        }

    @classmethod
    def from_templates(
        cls,
        name: str,
        *,
        locale: str | None = None,
        context: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Self:
        """Return a message whose subject, text and HTML are the templates called ``name``.

        ``from_templates("order", locale="de")`` reads ``order.de.subject.txt``, ``order.de.txt``
        and ``order.de.html``, or those without ``.de``. ``fields`` are the other fields of a
        message.
        """
        found = bundle(name, locale=locale, context=context or {})
        return cls(subject=found.subject, text=found.text, html=found.html, **fields)

    @property
    def further_headers(self) -> tuple[tuple[str, str], ...]:
        """The headers beside those that every message has."""
        pairs = headers_of(self.headers)
        if self.in_reply_to is not None:
            pairs += (("In-Reply-To", self.in_reply_to),)
        return (*pairs, ("References", " ".join(self.references))) if self.references else pairs


@dataclass(frozen=True, slots=True)
class Recipient:
    """Someone to write to, with the values that templates show to them alone.

    ``variables`` are what JSON can hold: texts, numbers, booleans, None, lists and mappings.
    """

    address: str | Address
    variables: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Parse the address."""
        object.__setattr__(self, "address", address_of(self.address))
        if self.variables is not None:
            if not isinstance(self.variables, Mapping):
                raise MessageError(
                    f"expected variables to be a mapping, got: {type(self.variables).__name__}"
                )
            object.__setattr__(self, "variables", dict(self.variables))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stored attachment. ``open`` yields its bytes in chunks of at most 256 KiB, at each call."""

    filename: str
    content_type: str
    disposition: Disposition
    content_id: str | None
    size_bytes: int
    open: Callable[[], Iterator[bytes]] = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A message with nothing left open: the same draft always composes to the same bytes.

    ``token`` is 32 hexadecimal digits, from which Message-IDs are derived; ``date`` is aware.
    ``to`` and ``cc`` are for a message sent ``together``, and empty otherwise.
    """

    token: str
    date: datetime
    sender: Address
    subject: str | TemplateSource
    text: str | TemplateSource | None
    html: str | TemplateSource | None
    headers: tuple[tuple[str, str], ...] = ()
    reply_to: tuple[Address, ...] = ()
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    together: bool = False
    attachments: tuple[Part, ...] = ()

    @property
    def is_templated(self) -> bool:
        """Whether something is still to be rendered for each recipient."""
        return any(
            isinstance(field, TemplateSource) for field in (self.subject, self.text, self.html)
        )

    def rendered(
        self, variables: Mapping[str, Any], budget: RenderBudget = DEFAULT_BUDGET
    ) -> Draft:
        """Return the draft with every template rendered for one recipient.

        HTML alone gets its text beside it. ``budget`` is for subject, text and HTML together; the
        same call may be made again with a larger one.

        Raises:
            TemplateError: a template fails; the text names file and line.
            TemplateTooSlow: the templates take more than ``budget``.
            InvalidHeader: the subject came out as something that is no header.
        """
        if not self.is_templated:
            return self
        meter = budget.meter()
        subject, text, html = (
            field.render(variables, meter) if isinstance(field, TemplateSource) else field
            for field in (self.subject, self.text, self.html)
        )
        if text is None and html is not None:
            text = plain.from_html(html)
        return replace(self, subject=rendered_subject(subject or ""), text=text, html=html)


def _subject(subject: str | Template) -> str | Template:
    if isinstance(subject, Template):
        return subject
    return checked_text(unpasted(subject), "the subject", error=InvalidHeader)


def rendered_subject(subject: str) -> str:
    """A template file ends in a line break, which is not meant."""
    return checked_text(unpasted(subject.strip()), "the rendered subject", error=InvalidHeader)


def _truth(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise MessageError(f"{what} must be True or False, not {shown(value)}")
    return value


def _body(body: str | Template | None, what: str) -> str | Template | None:
    return body if body is None or isinstance(body, Template) else storable(body, what)


def _attachments(attachments: Sequence[Attachment]) -> tuple[Attachment, ...]:
    items = items_of(attachments, "attachments")
    for item in items:
        if not isinstance(item, Attachment):
            raise MessageError(
                f"expected attachments to be Attachments, got: {shown(item)}; "
                "for example Attachment.from_path(…)"
            )
    return items


def _envelope_sender(sender: str | None) -> str | None:
    return sender if sender is None or sender == "" else address_of(sender).envelope


def _relay_name(name: str) -> str:
    text = checked_text(name, "the relay", error=MessageError)
    if not 0 < len(text) <= 64:
        raise MessageError(
            f"expected the relay to be a name of up to 64 characters, got: {shown(name)}"
        )
    return text


def _thread_of(message: str | ParsedMessage) -> tuple[str, tuple[str, ...]]:
    """Return what In-Reply-To and References of an answer hold (RFC 5322 section 3.6.4)."""
    if isinstance(message, str):
        answered = message_id_of(message)
        return answered, (answered,)
    if not isinstance(message, ParsedMessage):
        raise MessageError(
            "reply_to_message must be a Message-ID or an email.message.Message, not "
            f"{shown(message)}"
        )
    answered = message_id_of(str(message["Message-ID"] or ""))
    before = str(message["References"] or message["In-Reply-To"] or "").split()
    # Others' ids are not ours to mend: what is broken is left out.
    return answered, (*filter(is_message_id, before), answered)
