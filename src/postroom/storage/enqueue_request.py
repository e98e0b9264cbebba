"""What is ordered at enqueue, on which terms, and the receipt for it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypedDict

from sqlalchemy import SelectBase

from postroom.message.address import Address
from postroom.message.message import Message, Recipient
from postroom.message.templates import Templates
from postroom.storage.users import UserLookup

#: What most relays take; Gmail and Exchange Online refuse more than 25 MB and 35 MB.
MAX_MESSAGE_BYTES = 25 * 1024 * 1024

#: One to write to.
RecipientLike: TypeAlias = str | Address | Recipient

#: One or several to write to in a copy that others see: what ``cc`` and ``bcc`` take.
CopiedLike: TypeAlias = RecipientLike | Iterable[RecipientLike]

#: The same, and those whom queries find in the database: what ``to`` takes.
RecipientsLike: TypeAlias = RecipientLike | SelectBase | Iterable[RecipientLike | SelectBase]


class ExplicitRecipients(TypedDict, total=False):
    """Whom a message goes to and under which key, but for users; see `Outbox.enqueue`."""

    to: RecipientsLike
    cc: CopiedLike
    bcc: CopiedLike
    idempotency_key: str | None


class RecipientArguments(ExplicitRecipients, total=False):
    """What `Outbox.enqueue` takes beside session and message, for those that pass it on."""

    user_ids: Iterable[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueRequest:
    """One message and everyone it goes to. ``users`` are ids, looked up at enqueue."""

    message: Message
    to: RecipientsLike = ()
    cc: CopiedLike = ()
    bcc: CopiedLike = ()
    user_ids: Iterable[Any] = ()
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxDefaults:
    """What an outbox brings to every order.

    ``sender`` is for messages without one. ``max_message_bytes`` bounds bodies and encoded
    attachments together. ``notify`` wakes workers by PostgreSQL's NOTIFY, but in a transaction of
    two phases, which may hold none.
    """

    sender: Address | None = None
    templates: Templates = field(default_factory=lambda: Templates.of(None))
    users: UserLookup | None = None
    max_message_bytes: int = MAX_MESSAGE_BYTES
    notify: bool = True
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    new_message_id_seed: Callable[[], str] = field(default=lambda: secrets.token_hex(16))


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What stands in the outbox, once the caller commits.

    ``is_new`` is false where ``key`` stood already for the same message; the recipients are then
    those of the message that stands. ``count`` is how many there are. ``recipients`` is empty
    where a query was among them: whom it found, only the database knows.
    """

    message_id: int
    idempotency_key: str | None
    is_new: bool
    recipients: tuple[Address, ...]
    count: int
