"""A mail that a test has enqueued, parsed from the bytes that would go out."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Any

from postroom.storage.queries import MessageStatus
from postroom.testing.arrived import Attached, Letter
from postroom.testing.mirror import Mirror
from postroom.testing.transactions import Deed
from postroom.values.address import Address
from postroom.values.states import Kind, Lane


class EnqueuedMail:
    """One message and its recipients.

    Subject, bodies and attachments are those of the first recipient's copy, which are everybody's
    unless recipients bring variables of their own; see `copy_for`. A mail whose transaction has
    been rolled back keeps what was looked at before, and nothing else.
    """

    def __init__(self, mirror: Mirror, message_id: int, deed: Deed) -> None:
        self.id = message_id
        self._mirror = mirror
        self._deed = deed
        self._letters: dict[str, Letter] = {}

    @property
    def is_committed(self) -> bool:
        """Whether the transaction it was enqueued in has been committed, and not only a savepoint.

        It stays false in tests that roll everything back at their end.
        """
        return self._deed.is_committed

    @cached_property
    def recipients(self) -> tuple[str, ...]:
        """Every address it is for, as it was written."""
        return tuple(one.address for one in self._as_enqueued.recipients)

    @property
    def to(self) -> tuple[str, ...]:
        """The addresses in To; with a copy each these are all."""
        return self._of_kind(Kind.TO)

    @property
    def cc(self) -> tuple[str, ...]:
        """The addresses in Cc."""
        return self._of_kind(Kind.CC)

    @property
    def bcc(self) -> tuple[str, ...]:
        """The addresses that no header names."""
        return self._of_kind(Kind.BCC)

    @property
    def sender(self) -> str:
        """Who it is from, as people read it."""
        return self._as_enqueued.sender

    @property
    def key(self) -> str | None:
        """The key it was enqueued under."""
        return self._as_enqueued.key

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags."""
        return self._as_enqueued.tags

    @property
    def lane(self) -> Lane:
        """The lane it waits in."""
        return self._as_enqueued.lane

    @property
    def not_before(self) -> datetime | None:
        """When it may go out."""
        return self._as_enqueued.not_before

    @property
    def expires_at(self) -> datetime | None:
        """When it is too late to send it."""
        return self._as_enqueued.expires_at

    @property
    def relay(self) -> str | None:
        """The relay or route it asks for."""
        found: str | None = self._row.relay
        return found

    @property
    def is_together(self) -> bool:
        """Whether it is one mail with a shared To and Cc, instead of a copy each."""
        return bool(self._row.together)

    @property
    def subject(self) -> str:
        """The subject."""
        return self._first.subject

    @property
    def text(self) -> str:
        """The text body, empty where there is none."""
        return self._first.text

    @property
    def html(self) -> str:
        """The HTML body, empty where there is none."""
        return self._first.html

    @property
    def attachments(self) -> tuple[Attached, ...]:
        """Its attachments and inline images."""
        return self._first.attachments

    def attachment(self, filename: str) -> bytes:
        """Return the content of one attachment.

        Raises:
            AssertionError: there is none of that name.
        """
        return self._first.attachment(filename)

    def copy_for(self, address: str) -> Letter:
        """Return the copy of one recipient, as it would go over the wire.

        Raises:
            AssertionError: it is not for that address; those it is for are named.
        """
        wanted = Address.parse(address).key
        for one in self.recipients:
            if Address.stored(one).key == wanted:
                return self._letter(one)
        raise AssertionError(
            f"expected a mail to {address}, got: one to {', '.join(self.recipients)}"
        )

    def is_for(self, address: str) -> bool:
        """Return whether it is for ``address``, however that is spelled."""
        wanted = Address.parse(address).key
        return any(Address.stored(one).key == wanted for one in self.recipients)

    def __repr__(self) -> str:
        """Show what tells it from others."""
        whom = ", ".join(self.recipients[:3]) + (", …" if len(self.recipients) > 3 else "")
        return f"<mail {self.subject!r} to {whom}>"

    @property
    def _first(self) -> Letter:
        return self._letter(self.recipients[0])

    def _letter(self, address: str) -> Letter:
        if address not in self._letters:
            self._letters[address] = self._mirror.letter(self.id, address)
        return self._letters[address]

    def _of_kind(self, kind: Kind) -> tuple[str, ...]:
        found = self._as_enqueued.recipients
        return tuple(one.address for one in found if one.kind is kind)

    @cached_property
    def _as_enqueued(self) -> MessageStatus:
        return self._mirror.status(self.id)

    @cached_property
    def _row(self) -> Any:
        return self._mirror.message(self.id)
