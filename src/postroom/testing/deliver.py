"""Deliver what a test has enqueued: with the real worker, to a relay in the test's process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import overload

from sqlalchemy import URL, Engine, NullPool, create_engine
from sqlalchemy.exc import OperationalError

from postroom.delivery.config import WorkerConfig
from postroom.delivery.worker import Worker, WorkerContext
from postroom.errors import ConfigError, UnknownMessage
from postroom.relays.routing import RoutingTable
from postroom.storage import queries
from postroom.storage.engine import read_transaction, worker_engine
from postroom.storage.queries import MessageStatus
from postroom.storage.tables import Tables
from postroom.testing.accepted_log import Accepted
from postroom.testing.enqueued_mail import EnqueuedMail
from postroom.testing.faulty_relay import FaultyRelay
from postroom.testing.outbox_copy import OutboxCopy
from postroom.testing.outbox_mail import OutboxMail
from postroom.testing.received_mail import ParsedMail
from postroom.testing.recorder import Recorded

#: How long the write lock must be held to count as held by the test itself: an application that
#: is writing is done sooner.
_LOCKED_AFTER_S = 0.5

_CONFIG = WorkerConfig(poll_interval_s=0.05)

#: How long a worker may take that has everything it needs.
_TIMEOUT_S = 30.0


class ReceivedMail(ParsedMail):
    """One mail that the relay accepted: its envelope and its parsed content.

    Attributes:
        sender: The reverse-path.
        recipients: The recipients that the relay accepted.
    """

    def __init__(self, accepted: Accepted) -> None:
        super().__init__(accepted.content)
        self.sender = accepted.sender
        self.recipients = accepted.recipients

    def __repr__(self) -> str:
        """Show subject and recipients."""
        return f"<received {self.subject!r} for {', '.join(self.recipients)}>"


class DeliveryResult(Sequence[ReceivedMail]):
    """The mails that arrived, in order, and the status of each message."""

    def __init__(self, received: Iterable[Accepted], statuses: Iterable[MessageStatus]) -> None:
        self._received = [ReceivedMail(accepted) for accepted in received]
        self._statuses = {status.id: status for status in statuses}

    def __len__(self) -> int:
        """Return how many mails arrived."""
        return len(self._received)

    @overload
    def __getitem__(self, index: int) -> ReceivedMail: ...

    @overload
    def __getitem__(self, index: slice) -> list[ReceivedMail]: ...

    def __getitem__(self, index: int | slice) -> ReceivedMail | list[ReceivedMail]:
        """Return one mail, or a list for a slice."""
        return self._received[index]

    def __repr__(self) -> str:
        """Show the mails, as a failed assertion does."""
        return repr(self._received)

    def to(self, address: str) -> list[ReceivedMail]:
        """Return the mails that the relay accepted for ``address``."""
        return [mail for mail in self._received if address in mail.recipients]

    def only(self) -> ReceivedMail:
        """Return the only mail that arrived.

        Raises:
            AssertionError: none arrived, or several.
        """
        __tracebackhide__ = True
        if len(self._received) != 1:
            raise AssertionError(f"expected one mail to arrive, got: {self!r}")
        return self._received[0]

    def status(self, mail: EnqueuedMail) -> MessageStatus:
        """Return the status of an enqueued mail after the delivery, recipient by recipient."""
        return self._statuses[mail.id]


class DeliverMail:
    """Delivers what was enqueued and not rolled back, at each call; it then counts as asserted.

    Committed mail is delivered from the application's own database, as in production. Mail that no
    other connection can see, because the test never commits or the database is in memory, is
    delivered from a copy: then the application's tables do not show the outcome, but
    `DeliveryResult.status` does.

    Args:
        mail: What was enqueued.
        relay: Where to deliver it.
    """

    def __init__(self, mail: OutboxMail, relay: FaultyRelay) -> None:
        self._mail = mail
        self._relay = relay

    def __call__(self) -> DeliveryResult:
        """Run a worker until nothing is due; return what arrived."""
        self._mail.ignore()
        before = len(self._relay.accepted)
        statuses: list[MessageStatus] = []
        for source in databases_of(self._mail.recorder.current):
            self._drain(source)
            statuses += source.statuses()
            source.engine.dispose()
        return DeliveryResult(self._relay.accepted[before:], statuses)

    def _drain(self, source: DeliverableDatabase) -> None:
        # Whatever relay a mail asks for, it goes to this one.
        names = {one.mail.relay or "" for one in source.recorded}
        routing = RoutingTable.of(dict.fromkeys(["", *names], self._relay.url))
        context = WorkerContext(engine=source.engine, tables=source.tables, routing=routing)
        is_done = Worker(context, _CONFIG).drain(_TIMEOUT_S)
        assert is_done, f"the mail was not delivered within {_TIMEOUT_S:g} s"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DeliverableDatabase:
    """A database that a worker can deliver from, and the recorded mail in it."""

    engine: Engine
    tables: Tables
    recorded: list[Recorded]

    def statuses(self) -> list[MessageStatus]:
        """Return the status of each mail that still exists."""
        found: list[MessageStatus] = []
        with read_transaction(self.engine) as connection:
            for one in self.recorded:
                # The test may have deleted it.
                with suppress(UnknownMessage):
                    found.append(queries.status(connection, self.tables, one.mail.id))
        return found


def databases_of(recorded: Sequence[Recorded]) -> list[DeliverableDatabase]:
    """Return the databases to deliver ``recorded`` from.

    Committed mail is delivered from the application's database. A copy is used for mail that no
    other connection can see or change: it is not committed, the database is in memory, or the test
    holds SQLite's write lock.
    """
    shared: dict[tuple[URL, Tables], DeliverableDatabase] = {}
    copied: dict[OutboxCopy, DeliverableDatabase] = {}
    for one in recorded:
        place = (one.engine.url, one.tables)
        if one.action.is_committed and place not in shared and (engine := _usable(place[0])):
            shared[place] = DeliverableDatabase(engine=engine, tables=one.tables, recorded=[])
        if one.action.is_committed and place in shared:
            shared[place].recorded.append(one)
            one.copy.hold_back(one.mail.id)
        else:
            copy = DeliverableDatabase(engine=one.copy.engine, tables=one.copy.tables, recorded=[])
            copied.setdefault(one.copy, copy).recorded.append(one)
    return [*shared.values(), *copied.values()]


def _usable(url: URL) -> Engine | None:
    """Return a worker's engine for ``url``; None if a worker cannot use the database now."""
    try:
        engine = worker_engine(url)
    except ConfigError:  # in memory, or the driver that workers use is not installed
        return None
    if engine.dialect.name == "sqlite" and _is_locked(engine.url):
        engine.dispose()
        return None
    return engine


def _is_locked(url: URL) -> bool:
    """Return whether somebody holds the write lock and keeps it."""
    # Not a worker's engine, which would wait for 30 s.
    probe = create_engine(url, poolclass=NullPool, connect_args={"timeout": _LOCKED_AFTER_S})
    try:
        with probe.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError:
        return True
    return False
