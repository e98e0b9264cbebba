"""A mail that a test has enqueued: parsed content, and whether its transaction was committed."""

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

#: The event for a new savepoint does not have its name; the statement does.
_SAVEPOINT = re.compile(
    r"(SAVEPOINT|ROLLBACK TO SAVEPOINT|RELEASE SAVEPOINT)\s+(\S+)", re.IGNORECASE
)


class EnqueuedMail:
    """One message and its recipients.

    Subject, bodies and attachments are those of the first recipient's copy. All copies are the
    same, unless recipients have variables of their own; see `copy_for`. After a rollback only what
    was read before is left.

    Attributes:
        id: The message's id.
    """

    def __init__(self, copy: OutboxCopy, message_id: int, action: TrackedAction) -> None:
        self.id = message_id
        self._copy = copy
        self._action = action
        self._parsed: dict[str, ParsedMail] = {}

    @property
    def is_committed(self) -> bool:
        """Whether the transaction, and not only a savepoint, has been committed.

        Always false in tests that roll everything back at their end.
        """
        return self._action.is_committed

    @cached_property
    def recipients(self) -> tuple[str, ...]:
        """The addresses of all recipients, as they were written."""
        return tuple(one.address for one in self._as_enqueued.recipients)

    @property
    def to(self) -> tuple[str, ...]:
        """The addresses in To; if everyone gets a copy of their own, these are all."""
        return self._of_type(RecipientType.TO)

    @property
    def cc(self) -> tuple[str, ...]:
        """The addresses in Cc."""
        return self._of_type(RecipientType.CC)

    @property
    def bcc(self) -> tuple[str, ...]:
        """The addresses that are in no header."""
        return self._of_type(RecipientType.BCC)

    @property
    def sender(self) -> str:
        """The sender, as readers see it."""
        return self._as_enqueued.sender

    @property
    def idempotency_key(self) -> str | None:
        """The idempotency key, or None."""
        return self._as_enqueued.idempotency_key

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags."""
        return self._as_enqueued.tags

    @property
    def lane(self) -> Lane:
        """The lane it waits in."""
        return self._as_enqueued.lane

    @property
    def scheduled_at(self) -> datetime | None:
        """The earliest time to send it; None means now."""
        return self._as_enqueued.scheduled_at

    @property
    def expires_at(self) -> datetime | None:
        """The latest time to send it; None means any."""
        return self._as_enqueued.expires_at

    @property
    def relay(self) -> str | None:
        """The relay or route it asks for, or None."""
        found: str | None = self._row.relay
        return found

    @property
    def is_shared(self) -> bool:
        """Whether all recipients get the same copy, with To and Cc."""
        return bool(self._row.shared)

    @property
    def subject(self) -> str:
        """The subject."""
        return self._first.subject

    @property
    def text(self) -> str:
        """The text body; empty if there is none."""
        return self._first.text

    @property
    def html(self) -> str:
        """The HTML body; empty if there is none."""
        return self._first.html

    @property
    def attachments(self) -> tuple[ReceivedAttachment, ...]:
        """Attachments and inline images."""
        return self._first.attachments

    def attachment(self, filename: str) -> bytes:
        """Return the content of one attachment.

        Args:
            filename: Its name.

        Raises:
            AssertionError: there is no attachment of that name.
        """
        return self._first.attachment(filename)

    def copy_for(self, address: str) -> ParsedMail:
        """Return one recipient's copy, as it is sent.

        Args:
            address: The recipient, in any spelling.

        Raises:
            AssertionError: the mail is not for that address; the text says whom it is for.
        """
        wanted = Address(address).dedup_key
        for one in self.recipients:
            if Address.from_stored(one).dedup_key == wanted:
                return self._parsed_copy(one)
        raise AssertionError(f"the mail is not for {address}, but for {', '.join(self.recipients)}")

    def is_for(self, address: str) -> bool:
        """Return whether the mail is for ``address``, in any spelling."""
        wanted = Address(address).dedup_key
        return any(Address.from_stored(one).dedup_key == wanted for one in self.recipients)

    def __repr__(self) -> str:
        """Show subject and recipients."""
        whom = ", ".join(self.recipients[:3]) + (", …" if len(self.recipients) > 3 else "")
        return f"<mail {self.subject!r} to {whom}>"

    @property
    def _first(self) -> ParsedMail:
        return self._parsed_copy(self.recipients[0])

    def _parsed_copy(self, address: str) -> ParsedMail:
        if address not in self._parsed:
            self._parsed[address] = self._copy.parsed_copy(self.id, address)
        return self._parsed[address]

    def _of_type(self, type_: RecipientType) -> tuple[str, ...]:
        found = self._as_enqueued.recipients
        return tuple(one.address for one in found if one.type is type_)

    @cached_property
    def _as_enqueued(self) -> MessageStatus:
        return self._copy.status(self.id)

    @cached_property
    def _row(self) -> Any:
        return self._copy.message(self.id)


@dataclass(slots=True)
class TrackedAction:
    """Something done on a connection; ``undo`` is called if that is rolled back.

    Attributes:
        undo: Called after a rollback.
        is_rolled_back: True after a rollback, also of a savepoint.
        is_committed: True after the transaction was committed.
    """

    undo: Callable[[], None]
    is_rolled_back: bool = False
    is_committed: bool = False


@dataclass(slots=True)
class _Transaction:
    """The transaction of one connection."""

    actions: list[TrackedAction] = field(default_factory=list)
    #: Number of actions before each savepoint, by the savepoint's name.
    savepoints: dict[str, int] = field(default_factory=dict)


class TransactionTracker:
    """Follows the transactions and savepoints of every engine, from `watch` to `stop`."""

    def __init__(self) -> None:
        self._transactions: dict[Connection, _Transaction] = {}
        self._listeners: tuple[tuple[str, Any], ...] = (
            ("commit", self._committed),
            ("rollback", self._rolled_back),
            ("before_cursor_execute", self._executed),
        )

    def watch(self) -> None:
        """Start following transactions."""
        for name, listener in self._listeners:
            event.listen(Engine, name, listener)

    def stop(self) -> None:
        """Stop following transactions."""
        for name, listener in self._listeners:
            event.remove(Engine, name, listener)
        self._transactions.clear()

    def done(self, connection: Connection, undo: Callable[[], None]) -> TrackedAction:
        """Note an action in the connection's current transaction.

        Args:
            connection: Where the action was done.
            undo: Called if it is rolled back.
        """
        action = TrackedAction(undo)
        self._of(connection).actions.append(action)
        return action

    def _of(self, connection: Connection) -> _Transaction:
        return self._transactions.setdefault(connection, _Transaction())

    def _committed(self, connection: Connection) -> None:
        for action in self._end(connection).actions:
            action.is_committed = True

    def _rolled_back(self, connection: Connection) -> None:
        _undo(self._end(connection).actions)

    def _end(self, connection: Connection) -> _Transaction:
        return self._transactions.pop(connection, _Transaction())

    def _executed(self, connection: Connection, _: Any, statement: str, *__: Any) -> None:
        found = _SAVEPOINT.match(statement)
        if found is None:
            return
        verb, name = found[1].upper(), found[2]
        transaction = self._of(connection)
        if verb == "SAVEPOINT":
            transaction.savepoints[name] = len(transaction.actions)
            return
        # A savepoint from before we watched came before all actions.
        before = transaction.savepoints.pop(name, 0)
        if verb.startswith("ROLLBACK"):
            undone, transaction.actions = transaction.actions[before:], transaction.actions[:before]
            _undo(undone)


def _undo(actions: list[TrackedAction]) -> None:
    for action in actions:
        action.is_rolled_back = True
        action.undo()
