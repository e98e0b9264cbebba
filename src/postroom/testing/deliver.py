"""Delivering what a test has enqueued: the real worker, to a relay in the test's own process."""

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

#: An application that writes just now is done sooner; a test that holds its lock never is.
_LOCKED_AFTER_S = 0.5


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DeliverableDatabase:
    """A database that a worker can deliver from, and the recorded mail to deliver."""

    engine: Engine
    tables: Tables
    recorded: list[Recorded]

    def statuses(self) -> list[MessageStatus]:
        """Return how each of the mails stands."""
        found: list[MessageStatus] = []
        with read_transaction(self.engine) as connection:
            for one in self.recorded:
                # The test may have deleted it meanwhile.
                with suppress(UnknownMessage):
                    found.append(queries.status(connection, self.tables, one.mail.id))
        return found


def databases_of(recorded: Sequence[Recorded]) -> list[DeliverableDatabase]:
    """Return where ``recorded`` is to be delivered from.

    What is committed comes from where the application wrote it. What no other connection can see
    or change comes from its copy: it is not committed, the database is in memory, or the test
    holds SQLite's only write lock.
    """
    shared: dict[tuple[URL, Tables], DeliverableDatabase] = {}
    copied: dict[OutboxCopy, DeliverableDatabase] = {}
    for one in recorded:
        place = (one.engine.url, one.tables)
        if one.action.is_committed and place not in shared and (engine := _usable(place[0])):
            shared[place] = DeliverableDatabase(engine=engine, tables=one.tables, recorded=[])
        if one.action.is_committed and place in shared:
            shared[place].recorded.append(one)
            one.mirror.hold_back(one.mail.id)
        else:
            copy = DeliverableDatabase(
                engine=one.mirror.engine, tables=one.mirror.tables, recorded=[]
            )
            copied.setdefault(one.mirror, copy).recorded.append(one)
    return [*shared.values(), *copied.values()]


def _usable(url: URL) -> Engine | None:
    """Return a worker's engine for ``url``; None where a worker could not use it now."""
    try:
        engine = worker_engine(url)
    except ConfigError:  # in memory, or its driver for workers is not installed
        return None
    if engine.dialect.name == "sqlite" and _is_locked(engine.url):
        engine.dispose()
        return None
    return engine


def _is_locked(url: URL) -> bool:
    """Return whether somebody holds the write lock, and goes on holding it."""
    # Not a worker's engine, which would wait as long as workers do.
    probe = create_engine(url, poolclass=NullPool, connect_args={"timeout": _LOCKED_AFTER_S})
    try:
        with probe.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError:
        return True
    return False


_QUICK = WorkerConfig(poll_interval_s=0.05)
#: A test waits so long for a worker that has all it needs at hand.
_LONGEST_S = 30.0


class ReceivedMail(ParsedMail):
    """One mail that the relay accepted: its envelope, and what its reader has."""

    def __init__(self, accepted: Accepted) -> None:
        super().__init__(accepted.content)
        self.sender = accepted.sender
        self.recipients = accepted.recipients

    def __repr__(self) -> str:
        """Show what tells it from others."""
        return f"<arrived {self.subject!r} for {', '.join(self.recipients)}>"


class DeliveryResult(Sequence[ReceivedMail]):
    """What arrived, in order, and what became of each recipient."""

    def __init__(self, arrived: Iterable[Accepted], statuses: Iterable[MessageStatus]) -> None:
        self._arrived = [ReceivedMail(accepted) for accepted in arrived]
        self._statuses = {status.id: status for status in statuses}

    def __len__(self) -> int:
        """Return how many mails arrived."""
        return len(self._arrived)

    @overload
    def __getitem__(self, index: int) -> ReceivedMail: ...

    @overload
    def __getitem__(self, index: slice) -> list[ReceivedMail]: ...

    def __getitem__(self, index: int | slice) -> ReceivedMail | list[ReceivedMail]:
        """Return one of them, or some."""
        return self._arrived[index]

    def __repr__(self) -> str:
        """Show them, as a failed assertion does."""
        return repr(self._arrived)

    def to(self, address: str) -> list[ReceivedMail]:
        """Return those that the relay took for ``address``."""
        return [mail for mail in self._arrived if address in mail.recipients]

    def only(self) -> ReceivedMail:
        """Return the one mail that arrived.

        Raises:
            AssertionError: none did, or several.
        """
        __tracebackhide__ = True
        if len(self._arrived) != 1:
            raise AssertionError(f"expected one mail to arrive, got: {self!r}")
        return self._arrived[0]

    def status(self, mail: EnqueuedMail) -> MessageStatus:
        """Return how a mail stands now, recipient by recipient."""
        return self._statuses[mail.id]


class DeliverMail:
    """Delivers what stands of ``mail``, at each call, to ``relay``; it then counts as asserted.

    What is committed is delivered from the application's own database, as in production. What no
    other connection can see, because a test never commits or its database is in memory, is
    delivered from a copy: the application's own tables then say nothing of the outcome, and
    `Delivery.status` does.
    """

    def __init__(self, mail: OutboxMail, relay: FaultyRelay) -> None:
        self._mail = mail
        self._relay = relay

    def __call__(self) -> DeliveryResult:
        """Run a worker until nothing is due; return what arrived meanwhile."""
        self._mail.ignore()
        before = len(self._relay.accepted)
        statuses: list[MessageStatus] = []
        for source in databases_of(self._mail.recording.standing):
            self._drain(source)
            statuses += source.statuses()
            source.engine.dispose()
        return DeliveryResult(self._relay.accepted[before:], statuses)

    def _drain(self, source: DeliverableDatabase) -> None:
        # Whichever relay a mail asks for, it is this one.
        names = {one.mail.relay or "" for one in source.recorded}
        routing = RoutingTable.of(dict.fromkeys(["", *names], self._relay.url))
        premises = WorkerContext(engine=source.engine, tables=source.tables, routing=routing)
        is_done = Worker(premises, _QUICK).drain(_LONGEST_S)
        assert is_done, f"expected all mail to be delivered within {_LONGEST_S:g} s"
