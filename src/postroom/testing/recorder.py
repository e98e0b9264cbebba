"""What a test enqueues: noticed as it happens, copied, and forgotten if it is rolled back."""

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

#: What changes how a message stands, beside enqueueing it.
_DECISIONS = ("cancel", "retry", "resolve")
_SUPPRESSIONS = ("suppress", "unsuppress")


@dataclass(slots=True, kw_only=True)
class Recorded:
    """One message that was enqueued. ``engine`` is the application's."""

    mail: EnqueuedMail
    action: TrackedAction
    engine: Engine = field(repr=False)  # its URL may hold a secret
    tables: Tables
    mirror: OutboxCopy


class EnqueueRecorder:
    """Records what is enqueued through any `Outbox` of this process, from `start` to `stop`.

    ``blank`` is an empty outbox to make copies of, ``folder`` where they go.
    """

    def __init__(self, blank: Path, folder: Path) -> None:
        self._blank = blank
        self._folder = folder
        self._transactions = TransactionTracker()
        self._recorded: list[Recorded] = []
        #: By the pool and the tables they belong to.
        self._mirrors: dict[tuple[Any, Tables], OutboxCopy] = {}
        #: Every wrapped method, and who it was taken from.
        self._wrapped: list[tuple[type, str, Callable[..., Any]]] = []

    @property
    def standing(self) -> list[Recorded]:
        """What was enqueued and not rolled back, in order."""
        return [one for one in self._recorded if one.action.stands]

    @property
    def count(self) -> int:
        """How much has been enqueued so far, what was rolled back included."""
        return len(self._recorded)

    def since(self, count: int) -> list[Recorded]:
        """Return what stands of all that was enqueued after the first ``count``."""
        return [one for one in self._recorded[count:] if one.action.stands]

    def start(self) -> None:
        """Begin to record."""
        self._transactions.watch()
        self._wrap("enqueue", self._enqueued)
        for name in _DECISIONS:
            self._wrap(name, self._decided)
        for name in _SUPPRESSIONS:
            self._wrap(name, self._suppressed)

    def stop(self) -> None:
        """Record no more, and let go of the copies."""
        for owner, name, original in reversed(self._wrapped):
            setattr(owner, name, original)
        self._wrapped.clear()
        self._transactions.stop()
        for mirror in self._mirrors.values():
            mirror.close()

    def _wrap(self, name: str, after: Callable[[Outbox, Connection, Any, Any], None]) -> None:
        owner = next(one for one in Outbox.__mro__ if name in vars(one))
        original = vars(owner)[name]
        self._wrapped.append((owner, name, original))

        @functools.wraps(original)
        def wrapped(
            outbox: Outbox, session: SessionOrConnection, subject: Any, *rest: Any, **named: Any
        ) -> Any:
            result = original(outbox, session, subject, *rest, **named)
            connection = session if isinstance(session, Connection) else session.connection()
            after(outbox, connection, subject, result)
            return result

        setattr(owner, name, wrapped)

    def _enqueued(self, outbox: Outbox, connection: Connection, _: Any, receipt: Receipt) -> None:
        if not receipt.is_new:
            return
        mirror = self._mirror(outbox, connection)
        mirror.take(connection, outbox._tables, receipt.message_id)
        drop = functools.partial(mirror.drop, receipt.message_id)
        deed = self._transactions.done(connection, drop)
        self._recorded.append(
            Recorded(
                mail=EnqueuedMail(mirror, receipt.message_id, deed),
                action=deed,
                engine=connection.engine,
                tables=outbox._tables,
                mirror=mirror,
            )
        )

    def _decided(self, outbox: Outbox, connection: Connection, message: Any, _: Any) -> None:
        message_id = message.message_id if isinstance(message, Receipt) else message
        mirror = self._mirror(outbox, connection)
        if any(one.mail.id == message_id and one.mirror is mirror for one in self.standing):
            mirror.take(connection, outbox._tables, message_id)

    def _suppressed(self, outbox: Outbox, connection: Connection, _: Any, __: Any) -> None:
        self._mirror(outbox, connection).take_suppressions(connection, outbox._tables)

    def _mirror(self, outbox: Outbox, connection: Connection) -> OutboxCopy:
        key = (connection.engine.pool, outbox._tables)
        if key not in self._mirrors:
            path = self._folder / f"outbox-{len(self._mirrors)}.sqlite"
            self._mirrors[key] = OutboxCopy(self._blank, path)
        return self._mirrors[key]
