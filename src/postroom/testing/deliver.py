"""Delivering what a test has enqueued: the real worker, to a relay in the test's own process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

from postroom.delivery.routing import Routing
from postroom.delivery.worker import Premises, Worker
from postroom.storage.queries import MessageStatus
from postroom.testing.arrived import Letter
from postroom.testing.enqueued import EnqueuedMail
from postroom.testing.faulty_relay import FaultyRelay
from postroom.testing.journal import Accepted
from postroom.testing.outbox_mail import OutboxMail
from postroom.testing.sources import Source, sources_of
from postroom.values.config import WorkerConfig

_QUICK = WorkerConfig(poll_s=0.05)
#: A test waits so long for a worker that has all it needs at hand.
_LONGEST_S = 30.0


class ArrivedMail(Letter):
    """One mail that the relay accepted: its envelope, and what its reader has."""

    def __init__(self, accepted: Accepted) -> None:
        super().__init__(accepted.content)
        self.sender = accepted.sender
        self.recipients = accepted.recipients

    def __repr__(self) -> str:
        """Show what tells it from others."""
        return f"<arrived {self.subject!r} for {', '.join(self.recipients)}>"


class Delivery(Sequence[ArrivedMail]):
    """What arrived, in order, and what became of each recipient."""

    def __init__(self, arrived: Iterable[Accepted], statuses: Iterable[MessageStatus]) -> None:
        self._arrived = [ArrivedMail(accepted) for accepted in arrived]
        self._statuses = {status.id: status for status in statuses}

    def __len__(self) -> int:
        """Return how many mails arrived."""
        return len(self._arrived)

    @overload
    def __getitem__(self, index: int) -> ArrivedMail: ...

    @overload
    def __getitem__(self, index: slice) -> list[ArrivedMail]: ...

    def __getitem__(self, index: int | slice) -> ArrivedMail | list[ArrivedMail]:
        """Return one of them, or some."""
        return self._arrived[index]

    def __repr__(self) -> str:
        """Show them, as a failed assertion does."""
        return repr(self._arrived)

    def to(self, address: str) -> list[ArrivedMail]:
        """Return those that the relay took for ``address``."""
        return [mail for mail in self._arrived if address in mail.recipients]

    def only(self) -> ArrivedMail:
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


class Deliver:
    """Delivers what stands of ``mail``, at each call, to ``relay``; it then counts as asserted.

    What is committed is delivered from the application's own database, as in production. What no
    other connection can see, because a test never commits or its database is in memory, is
    delivered from a copy: the application's own tables then say nothing of the outcome, and
    `Delivery.status` does.
    """

    def __init__(self, mail: OutboxMail, relay: FaultyRelay) -> None:
        self._mail = mail
        self._relay = relay

    def __call__(self) -> Delivery:
        """Run a worker until nothing is due; return what arrived meanwhile."""
        self._mail.ignore()
        before = len(self._relay.accepted)
        statuses: list[MessageStatus] = []
        for source in sources_of(self._mail.recording.standing):
            self._drain(source)
            statuses += source.statuses()
            source.engine.dispose()
        return Delivery(self._relay.accepted[before:], statuses)

    def _drain(self, source: Source) -> None:
        # Whichever relay a mail asks for, it is this one.
        names = {one.mail.relay or "" for one in source.recorded}
        routing = Routing.of(dict.fromkeys(["", *names], self._relay.url))
        premises = Premises(engine=source.engine, tables=source.tables, routing=routing)
        is_done = Worker(premises, _QUICK).drain(_LONGEST_S)
        assert is_done, f"expected all mail to be delivered within {_LONGEST_S:g} s"
