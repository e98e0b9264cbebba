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

from postroom.errors import InvalidHeader, MessageError
from postroom.message.address import Address
from postroom.message.attachment import Attachment, Disposition
from postroom.message.envelope import DsnOptions
from postroom.message.headers import clean_pasted
from postroom.message.html_text import html_to_text
from postroom.message.templates import (
    DEFAULT_BUDGET,
    FrozenTemplate,
    RenderBudget,
    Template,
    template_set,
)
from postroom.message.validation import (
    as_tuple,
    aware_datetime,
    checked_delays,
    checked_dsn,
    checked_headers,
    checked_message_id,
    enum_member,
    is_message_id,
    one_line_texts,
    parse_address,
    parse_addresses,
    refuse_repeated_headers,
    storable_text,
)
from postroom.states import Lane, LaneLike, OnDoubt, OnDoubtLike
from postroom.text import check_line, shorten_repr

__all__ = ["Disposition", "Draft", "Message", "Recipient", "StoredAttachment"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is said, and how it is delivered. To whom is said at enqueue.

    Content: ``sender``, ``subject``, ``text``, ``html``, ``attachments``, ``headers``,
    ``reply_to``, ``in_reply_to``, ``references``, ``reply_to_message``. A ``str`` is literal,
    always; only a `Template` is rendered.

    Terms of delivery: ``envelope_sender``, ``shared``, ``lane``, ``relay``, ``on_doubt``,
    ``scheduled_at``, ``expires_at``, ``tags``, ``retry_delays_s``, ``dsn``. No recipient sees
    them, but for ``shared``.

    Attributes:
        sender: Who it is from; the outbox's sender where None.
        subject: One line.
        text: The plain text. Where there is only HTML, a text is made of it.
        html: The HTML, if any.
        attachments: Files that travel with it, inline images included.
        headers: Further headers, by name, or as pairs where a name repeats.
        reply_to: Where answers go, if not to the sender.
        in_reply_to: The Message-ID of the message that this one answers.
        references: The Message-IDs of the thread before it, oldest first.
        reply_to_message: Sets ``in_reply_to`` and ``references``: the Message-ID of the message
            that this one answers, or that message as the standard library parsed it.
        envelope_sender: Where bounces go, if not to the sender; empty for nowhere (RFC 5321
            section 4.5.5).
        shared: Whether all recipients get one mail, and see each other in To and Cc. Otherwise
            each gets a copy of their own.
        lane: Which queue it waits in: ``urgent``, ``normal`` or ``bulk``.
        relay: The name of a relay or route of the outbox, where its rules should not decide.
        on_doubt: What happens where a relay may or may not have taken it: ``resend``, or
            ``hold`` until `Outbox.resolve` is called.
        scheduled_at: Not sent before this time; it has a time zone.
        expires_at: Not sent after this time; it has a time zone.
        tags: Words to find it by, with `Outbox.search`.
        retry_delays_s: The seconds to wait before each retry, instead of the worker's schedule.
        dsn: The delivery reports to ask relays for (RFC 3461).

    Raises:
        MessageError: A field holds what cannot be sent; its subclasses say what.
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
    shared: bool = False
    lane: LaneLike = Lane.NORMAL
    relay: str | None = None
    on_doubt: OnDoubtLike = OnDoubt.RESEND
    scheduled_at: datetime | None = None
    expires_at: datetime | None = None
    tags: Sequence[str] = ()
    retry_delays_s: Sequence[float] | None = None
    dsn: DsnOptions | None = None

    def __post_init__(self, reply_to_message: str | ParsedMessage | None) -> None:
        """Parse, check and freeze every field."""
        for name, value in self._checked().items():
            object.__setattr__(self, name, value)
        if reply_to_message is not None:
            answered, thread = _thread_of(reply_to_message)
            object.__setattr__(self, "in_reply_to", answered)
            object.__setattr__(self, "references", thread)
        refuse_repeated_headers(self.extra_headers)
        if self.scheduled_at and self.expires_at and self.expires_at <= self.scheduled_at:
            raise MessageError(
                f"expected expires_at to be after scheduled_at ({self.scheduled_at.isoformat()}), "
                f"got: {self.expires_at.isoformat()}"
            )

    def _checked(self) -> dict[str, Any]:
        return {
            "sender": None if self.sender is None else parse_address(self.sender),
            "subject": _subject(self.subject),
            "text": _body(self.text, "the text"),
            "html": _body(self.html, "the html"),
            "attachments": _attachments(self.attachments),
            "headers": checked_headers(self.headers),
            "reply_to": parse_addresses(self.reply_to, "reply_to"),
            "in_reply_to": None
            if self.in_reply_to is None
            else checked_message_id(self.in_reply_to),
            "references": tuple(map(checked_message_id, as_tuple(self.references, "references"))),
            "envelope_sender": _envelope_sender(self.envelope_sender),
            "shared": _truth(self.shared, "shared"),
            "lane": enum_member(Lane, self.lane, "the lane"),
            "relay": None if self.relay is None else _relay_name(self.relay),
            "on_doubt": enum_member(OnDoubt, self.on_doubt, "on_doubt"),
            "scheduled_at": aware_datetime(self.scheduled_at, "scheduled_at"),
            "expires_at": aware_datetime(self.expires_at, "expires_at"),
            "tags": one_line_texts(self.tags, "tags"),
            "retry_delays_s": checked_delays(self.retry_delays_s),
            "dsn": checked_dsn(self.dsn),
        }

    @classmethod
    def from_templates(
        cls,
        name: str,
        context: Mapping[str, Any] | None = None,
        *,
        locale: str | None = None,
        **fields: Any,
    ) -> Self:
        """Return a message whose subject, text and HTML are the templates called ``name``.

        ``from_templates("order", locale="de")`` reads ``order.de.subject.txt``, ``order.de.txt``
        and ``order.de.html``, or those without ``.de``.

        Args:
            name: What the files' names begin with.
            context: What the names in the templates stand for.
            locale: The language, like ``de`` or ``pt_BR``. It is also a variable, and the default
                of the filters that format numbers and dates.
            **fields: The other fields of the message.

        Raises:
            TemplateError: ``name`` or ``locale`` cannot be a part of a file's name.
            MessageError: A field holds what cannot be sent.
        """
        found = template_set(name, locale=locale, context=context or {})
        return cls(subject=found.subject, text=found.text, html=found.html, **fields)

    @property
    def extra_headers(self) -> tuple[tuple[str, str], ...]:
        """The headers beside those that every message has."""
        pairs = checked_headers(self.headers)
        if self.in_reply_to is not None:
            pairs += (("In-Reply-To", self.in_reply_to),)
        return (*pairs, ("References", " ".join(self.references))) if self.references else pairs


@dataclass(frozen=True, slots=True)
class Recipient:
    """Someone to write to, with the values that templates show to them alone.

    Attributes:
        address: Their address; a text is parsed.
        variables: What the names in templates stand for in their copy, of what JSON can hold:
            texts, numbers, booleans, None, lists and mappings.

    Raises:
        InvalidAddress: The address cannot be written to.
        MessageError: ``variables`` is not a mapping.
    """

    address: str | Address
    variables: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Parse the address."""
        object.__setattr__(self, "address", parse_address(self.address))
        if self.variables is not None:
            if not isinstance(self.variables, Mapping):
                raise MessageError(
                    f"`variables` must be a mapping, not {type(self.variables).__name__}"
                )
            object.__setattr__(self, "variables", dict(self.variables))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAttachment:
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

    message_id_seed: str
    date: datetime
    sender: Address
    subject: str | FrozenTemplate
    text: str | FrozenTemplate | None
    html: str | FrozenTemplate | None
    headers: tuple[tuple[str, str], ...] = ()
    reply_to: tuple[Address, ...] = ()
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    shared: bool = False
    attachments: tuple[StoredAttachment, ...] = ()

    @property
    def is_templated(self) -> bool:
        """Whether something is still to be rendered for each recipient."""
        return any(
            isinstance(field, FrozenTemplate) for field in (self.subject, self.text, self.html)
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
            field.render(variables, meter) if isinstance(field, FrozenTemplate) else field
            for field in (self.subject, self.text, self.html)
        )
        if text is None and html is not None:
            text = html_to_text(html)
        return replace(self, subject=rendered_subject(subject or ""), text=text, html=html)


def _subject(subject: str | Template) -> str | Template:
    if isinstance(subject, Template):
        return subject
    return check_line(clean_pasted(subject), "the subject", error=InvalidHeader)


def rendered_subject(subject: str) -> str:
    """A template file ends in a line break, which is not meant."""
    return check_line(clean_pasted(subject.strip()), "the rendered subject", error=InvalidHeader)


def _truth(value: Any, what: str) -> bool:
    if not isinstance(value, bool):
        raise MessageError(f"{what} must be True or False, not {shorten_repr(value)}")
    return value


def _body(body: str | Template | None, what: str) -> str | Template | None:
    return body if body is None or isinstance(body, Template) else storable_text(body, what)


def _attachments(attachments: Sequence[Attachment]) -> tuple[Attachment, ...]:
    items = as_tuple(attachments, "attachments")
    for item in items:
        if not isinstance(item, Attachment):
            raise MessageError(
                f"expected attachments to be Attachments, got: {shorten_repr(item)}; "
                "for example Attachment.from_path(…)"
            )
    return items


def _envelope_sender(sender: str | None) -> str | None:
    return sender if sender is None or sender == "" else parse_address(sender).envelope


def _relay_name(name: str) -> str:
    text = check_line(name, "the relay", error=MessageError)
    if not 0 < len(text) <= 64:
        raise MessageError(
            f"expected the relay to be a name of up to 64 characters, got: {shorten_repr(name)}"
        )
    return text


def _thread_of(message: str | ParsedMessage) -> tuple[str, tuple[str, ...]]:
    """Return what In-Reply-To and References of an answer hold (RFC 5322 section 3.6.4)."""
    if isinstance(message, str):
        answered = checked_message_id(message)
        return answered, (answered,)
    if not isinstance(message, ParsedMessage):
        raise MessageError(
            "reply_to_message must be a Message-ID or an email.message.Message, not "
            f"{shorten_repr(message)}"
        )
    answered = checked_message_id(str(message["Message-ID"] or ""))
    before = str(message["References"] or message["In-Reply-To"] or "").split()
    # Others' ids are not ours to mend: what is broken is left out.
    return answered, (*filter(is_message_id, before), answered)
