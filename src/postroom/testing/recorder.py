"""Record what a test enqueues as it happens; drop it again if it is rolled back."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from postroom.outbox import Outbox
from postroom.storage.engine import SessionOrConnection
from postroom.storage.enqueue_request import Receipt
from postroom.storage.tables import Tables
from postroom.testing.enqueued_mail import EnqueuedMail, TrackedAction, TransactionTracker
from postroom.testing.outbox_copy import OutboxCopy

#: Methods of `Outbox` that change the status of a message.
_ACTIONS = ("cancel", "retry", "resolve")
_SUPPRESSIONS = ("suppress", "unsuppress")


@dataclass(slots=True, kw_only=True)
class Recorded:
    """One message that was enqueued.

    Attributes:
        mail: The mail, for the test.
        action: What became of its transaction.
        engine: The application's engine.
        tables: The application's tables.
        copy: The copy that has the message.
    """

    mail: EnqueuedMail
    action: TrackedAction
    engine: Engine = field(repr=False)  # its URL may hold a secret
    tables: Tables
    copy: OutboxCopy


class EnqueueRecorder:
    """Records what is enqueued through any `Outbox` of this process, from `start` to `stop`.

    Args:
        blank: An empty outbox to make copies of.
        folder: Where the copies are kept.
    """

    def __init__(self, blank: Path, folder: Path) -> None:
        self._blank = blank
        self._folder = folder
        self._transactions = TransactionTracker()
        self._recorded: list[Recorded] = []
        #: By the application's connection pool and tables.
        self._copies: dict[tuple[Any, Tables], OutboxCopy] = {}
        #: Every wrapped method: its class, its name and the original.
        self._wrapped: list[tuple[type, str, Callable[..., Any]]] = []

    @property
    def current(self) -> list[Recorded]:
        """What was enqueued and not rolled back, in order."""
        return [one for one in self._recorded if not one.action.is_rolled_back]

    @property
    def count(self) -> int:
        """How many messages were enqueued so far, including those rolled back."""
        return len(self._recorded)

    def since(self, count: int) -> list[Recorded]:
        """Return what was enqueued after the first ``count`` messages and not rolled back."""
        return [one for one in self._recorded[count:] if not one.action.is_rolled_back]

    def start(self) -> None:
        """Start recording."""
        self._transactions.watch()
        self._wrap("enqueue", self._enqueued)
        for name in _ACTIONS:
            self._wrap(name, self._acted)
        for name in _SUPPRESSIONS:
            self._wrap(name, self._suppressed)

    def stop(self) -> None:
        """Stop recording, and close the copies."""
        for owner, name, original in reversed(self._wrapped):
            setattr(owner, name, original)
        self._wrapped.clear()
        self._transactions.stop()
        for copy in self._copies.values():
            copy.close()

    def _wrap(self, name: str, after: Callable[[Outbox, Connection, Any, Any], None]) -> None:
        owner = next(one for one in Outbox.__mro__ if name in vars(one))
        original = vars(owner)[name]
        self._wrapped.append((owner, name, original))

        @functools.wraps(original)
        def wrapped(
            outbox: Outbox, session: SessionOrConnection, subject: Any, *rest: Any, **options: Any
        ) -> Any:
            result = original(outbox, session, subject, *rest, **options)
            connection = session if isinstance(session, Connection) else session.connection()
            after(outbox, connection, subject, result)
            return result

        setattr(owner, name, wrapped)

    def _enqueued(self, outbox: Outbox, connection: Connection, _: Any, receipt: Receipt) -> None:
        if not receipt.is_new:
            return
        copy = self._copy(outbox, connection)
        copy.take(connection, outbox._tables, receipt.message_id)
        drop = functools.partial(copy.drop, receipt.message_id)
        action = self._transactions.done(connection, drop)
        self._recorded.append(
            Recorded(
                mail=EnqueuedMail(copy, receipt.message_id, action),
                action=action,
                engine=connection.engine,
                tables=outbox._tables,
                copy=copy,
            )
        )

    def _acted(self, outbox: Outbox, connection: Connection, message: Any, _: Any) -> None:
        message_id = message.message_id if isinstance(message, Receipt) else message
        copy = self._copy(outbox, connection)
        if any(one.mail.id == message_id and one.copy is copy for one in self.current):
            copy.take(connection, outbox._tables, message_id)

    def _suppressed(self, outbox: Outbox, connection: Connection, _: Any, __: Any) -> None:
        self._copy(outbox, connection).take_suppressions(connection, outbox._tables)

    def _copy(self, outbox: Outbox, connection: Connection) -> OutboxCopy:
        key = (connection.engine.pool, outbox._tables)
        if key not in self._copies:
            path = self._folder / f"outbox-{len(self._copies)}.sqlite"
            self._copies[key] = OutboxCopy(self._blank, path)
        return self._copies[key]
