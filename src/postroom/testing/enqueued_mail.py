"""A mail that a test has enqueued, parsed from the bytes that would go out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Engine, event

from postroom.message.address import Address
from postroom.states import Lane, RecipientType
from postroom.storage.queries import MessageStatus
from postroom.testing.outbox_copy import OutboxCopy
from postroom.testing.received_mail import ParsedMail, ReceivedAttachment


class EnqueuedMail:
    """One message and its recipients.

    Subject, bodies and attachments are those of the first recipient's copy, which are everybody's
    unless recipients bring variables of their own; see `copy_for`. A mail whose transaction has
    been rolled back keeps what was looked at before, and nothing else.
    """

    def __init__(self, mirror: OutboxCopy, message_id: int, deed: TrackedAction) -> None:
        self.id = message_id
        self._mirror = mirror
        self._deed = deed
        self._letters: dict[str, ParsedMail] = {}

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
        return self._of_kind(RecipientType.TO)

    @property
    def cc(self) -> tuple[str, ...]:
        """The addresses in Cc."""
        return self._of_kind(RecipientType.CC)

    @property
    def bcc(self) -> tuple[str, ...]:
        """The addresses that no header names."""
        return self._of_kind(RecipientType.BCC)

    @property
    def sender(self) -> str:
        """Who it is from, as people read it."""
        return self._as_enqueued.sender

    @property
    def idempotency_key(self) -> str | None:
        """The key it was enqueued under."""
        return self._as_enqueued.idempotency_key

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags."""
        return self._as_enqueued.tags

    @property
    def lane(self) -> Lane:
        """The lane it waits in."""
        return self._as_enqueued.lane

    @property
    def scheduled_at(self) -> datetime | None:
        """When it may go out."""
        return self._as_enqueued.scheduled_at

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
    def is_shared(self) -> bool:
        """Whether it is one mail with a shared To and Cc, instead of a copy each."""
        return bool(self._row.shared)

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
    def attachments(self) -> tuple[ReceivedAttachment, ...]:
        """Its attachments and inline images."""
        return self._first.attachments

    def attachment(self, filename: str) -> bytes:
        """Return the content of one attachment.

        Raises:
            AssertionError: there is none of that name.
        """
        return self._first.attachment(filename)

    def copy_for(self, address: str) -> ParsedMail:
        """Return the copy of one recipient, as it would go over the wire.

        Raises:
            AssertionError: it is not for that address; those it is for are named.
        """
        wanted = Address(address).dedup_key
        for one in self.recipients:
            if Address.from_stored(one).dedup_key == wanted:
                return self._letter(one)
        raise AssertionError(
            f"expected a mail to {address}, got: one to {', '.join(self.recipients)}"
        )

    def is_for(self, address: str) -> bool:
        """Return whether it is for ``address``, however that is spelled."""
        wanted = Address(address).dedup_key
        return any(Address.from_stored(one).dedup_key == wanted for one in self.recipients)

    def __repr__(self) -> str:
        """Show what tells it from others."""
        whom = ", ".join(self.recipients[:3]) + (", …" if len(self.recipients) > 3 else "")
        return f"<mail {self.subject!r} to {whom}>"

    @property
    def _first(self) -> ParsedMail:
        return self._letter(self.recipients[0])

    def _letter(self, address: str) -> ParsedMail:
        if address not in self._letters:
            self._letters[address] = self._mirror.letter(self.id, address)
        return self._letters[address]

    def _of_kind(self, kind: RecipientType) -> tuple[str, ...]:
        found = self._as_enqueued.recipients
        return tuple(one.address for one in found if one.type is kind)

    @cached_property
    def _as_enqueued(self) -> MessageStatus:
        return self._mirror.status(self.id)

    @cached_property
    def _row(self) -> Any:
        return self._mirror.message(self.id)


#: The events of savepoints tell no name when one is made; their statements do.
_SAVEPOINT = re.compile(
    r"(SAVEPOINT|ROLLBACK TO SAVEPOINT|RELEASE SAVEPOINT)\s+(\S+)", re.IGNORECASE
)


@dataclass(slots=True)
class TrackedAction:
    """Something done on a connection; ``undo`` is called if that is rolled back."""

    undo: Callable[[], None]
    stands: bool = True
    is_committed: bool = False


@dataclass(slots=True)
class _Open:
    """The transaction of one connection."""

    deeds: list[TrackedAction] = field(default_factory=list)
    #: Savepoints by name, each with how many deeds came before it.
    savepoints: dict[str, int] = field(default_factory=dict)


class TransactionTracker:
    """Follows the transactions of every engine while it is watching."""

    def __init__(self) -> None:
        self._open: dict[Connection, _Open] = {}
        self._listeners: tuple[tuple[str, Any], ...] = (
            ("commit", self._committed),
            ("rollback", self._rolled_back),
            ("before_cursor_execute", self._executed),
        )

    def watch(self) -> None:
        """Begin to follow them."""
        for name, listener in self._listeners:
            event.listen(Engine, name, listener)

    def stop(self) -> None:
        """Follow them no more."""
        for name, listener in self._listeners:
            event.remove(Engine, name, listener)
        self._open.clear()

    def done(self, connection: Connection, undo: Callable[[], None]) -> TrackedAction:
        """Note that something was done in the transaction at hand."""
        deed = TrackedAction(undo)
        self._of(connection).deeds.append(deed)
        return deed

    def _of(self, connection: Connection) -> _Open:
        return self._open.setdefault(connection, _Open())

    def _committed(self, connection: Connection) -> None:
        for deed in self._ended(connection).deeds:
            deed.is_committed = True

    def _rolled_back(self, connection: Connection) -> None:
        _undo(self._ended(connection).deeds)

    def _ended(self, connection: Connection) -> _Open:
        return self._open.pop(connection, _Open())

    def _executed(self, connection: Connection, _: Any, statement: str, *__: Any) -> None:
        found = _SAVEPOINT.match(statement)
        if found is None:
            return
        verb, name = found[1].upper(), found[2]
        transaction = self._of(connection)
        if verb == "SAVEPOINT":
            transaction.savepoints[name] = len(transaction.deeds)
            return
        # One that was made before we watched came before everything.
        before = transaction.savepoints.pop(name, 0)
        if verb.startswith("ROLLBACK"):
            undone, transaction.deeds = transaction.deeds[before:], transaction.deeds[:before]
            _undo(undone)


def _undo(deeds: list[TrackedAction]) -> None:
    for deed in deeds:
        deed.stands = False
        deed.undo()
