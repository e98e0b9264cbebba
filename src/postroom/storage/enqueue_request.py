"""What an enqueue is asked for, what the outbox brings to it, and the receipt for it."""

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
    """One message and everyone it goes to; see `Outbox.enqueue`."""

    message: Message
    to: RecipientsLike = ()
    cc: CopiedLike = ()
    bcc: CopiedLike = ()
    user_ids: Iterable[Any] = ()
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxDefaults:
    """What an outbox brings to every enqueue; see `Outbox` for the fields.

    Attributes:
        sender: For messages without one.
        templates: Where templates are found.
        users: Where user ids are looked up.
        max_message_bytes: Bounds bodies and encoded attachments together.
        notify: Whether to wake workers by NOTIFY; not in a two-phase transaction, which may not.
        now: Returns the time, which is aware.
        new_message_id_seed: Returns 32 random hexadecimal digits.
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
    """What the outbox holds once the caller commits.

    Attributes:
        message_id: The message's id, for `Outbox.status` and the like.
        idempotency_key: The key it was enqueued with, if any.
        is_new: False if the key belonged to the same message already. Nothing was written then,
            and the recipients are those of that message.
        recipients: Who it goes to; empty if a query was among them, since only the database knows
            whom it found.
        count: How many recipients there are.
    """

    message_id: int
    idempotency_key: str | None
    is_new: bool
    recipients: tuple[Address, ...]
    count: int
