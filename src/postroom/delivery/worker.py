"""A worker: it empties the outbox, on its own or among others, until told to stop."""

from __future__ import annotations

import os
import platform
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from random import SystemRandom

from sqlalchemy import Engine

from postroom.delivery.books import Books
from postroom.delivery.clock import monotonic, utc_now
from postroom.delivery.desk import Desk
from postroom.delivery.dispatch import Dispatch
from postroom.delivery.gate import Gate
from postroom.delivery.ledger_thread import Instruments, LedgerThread
from postroom.delivery.lines import Lines
from postroom.delivery.listener import Listener
from postroom.delivery.outlet import Outlet
from postroom.delivery.queue import JobQueue
from postroom.delivery.routing import Routing
from postroom.delivery.scheduler import Scheduler
from postroom.delivery.screening import Screening
from postroom.delivery.sender import Office, Sender
from postroom.delivery.until import Until
from postroom.delivery.verdict import Verdicts
from postroom.log import Log
from postroom.smtp.route import Router
from postroom.storage import schema
from postroom.storage.diagnosis import diagnosed
from postroom.storage.engine import read
from postroom.storage.heartbeat import Heartbeat
from postroom.storage.models import Tables
from postroom.storage.notifications import can_listen
from postroom.values.config import WorkerConfig
from postroom.values.errors import ConfigError
from postroom.values.relay import Relay
from postroom.version import __version__

log = Log("postroom.worker")

#: How often a worker that waits to be stopped looks whether it was.
_LOOK_UP_S = 0.25
#: How long the outcomes of what was cut may take to be recorded.
_LAST_COMMIT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """Where a worker works: a database of ours, and the routes that mail may take.

    A worker that ``lingers`` leaves its connections open, on ``lines``, for the next one of this
    process. ``random`` returns numbers from [0, 1), ``token`` a fresh random 63-bit one.
    """

    engine: Engine = field(repr=False)  # its URL may hold a secret
    tables: Tables
    routing: Routing
    lines: Lines = field(default_factory=Lines)
    lingers: bool = False
    random: Callable[[], float] = field(default=SystemRandom().random)
    token: Callable[[], int] = field(default=lambda: secrets.randbits(63))


class Worker:
    """Claims, sends and records, in threads of its own. Any number may share one outbox.

    ``run`` blocks; ``start`` does not. ``stop`` may be called from any thread and from a signal
    handler.
    """

    def __init__(self, premises: Premises, config: WorkerConfig | None = None) -> None:
        self._premises = premises
        self._config = config or WorkerConfig()
        self._ledger: LedgerThread | None = None
        self._listener: Listener | None = None
        #: Also where there is no ledger thread yet: a signal may come while we begin.
        self._is_stopped = False

    @property
    def is_running(self) -> bool:
        """Return whether the worker is at work."""
        return self._ledger is not None and self._ledger.is_alive()

    @property
    def refused(self) -> ConfigError | None:
        """Return why the database refuses what a worker needs, while it does and will go on."""
        return None if self._ledger is None else self._ledger.refused

    def run(self, *, until_empty: bool = False) -> None:
        """Work until stopped, or until nothing is left in the queue, retries included.

        Raises:
            SchemaError: the tables are missing, too old or too new.
            ConfigError: the database cannot be reached; or, with ``until_empty``, it refuses what
                a worker needs, by its rights or its set-up.
        """
        ledger = self._start(Until.EMPTY if until_empty else Until.STOPPED)
        self._wait()
        if until_empty and ledger.refused is not None:
            raise ledger.refused

    def drain(self, budget_s: float | None = None) -> bool:
        """Work until nothing is due: what is deferred or leased by another worker stays.

        After ``budget_s`` seconds it stops as `stop` does. Returns whether it came to the end of
        what was due.

        Raises:
            SchemaError: the tables are missing, too old or too new.
            ConfigError: the database cannot be reached, or refuses what a worker needs.
        """
        ledger = self._start(Until.DRAINED)
        try:
            self._wait(budget_s)
        except BaseException:
            ledger.stop()  # whoever interrupts us goes on, and this work should not
            raise
        if ledger.refused is not None:
            raise ledger.refused
        return not ledger.is_stopping

    def start(self) -> None:
        """Begin to work, in the background; nothing happens where it does already.

        Raises:
            SchemaError: the tables are missing, too old or too new.
            ConfigError: the database cannot be reached.
        """
        if not self.is_running:
            self._start(Until.STOPPED)

    def hint(self) -> None:
        """Say that mail may be due; without a hint it is found within ``poll_s``."""
        if self._ledger is not None:
            self._ledger.hint()

    def stop(self) -> None:
        """Claim nothing more; finish what is on the wire, give back the rest. Does not wait.

        A worker that has not begun yet will end at once when it does.
        """
        self._is_stopped = True
        if self._ledger is not None:
            self._ledger.stop()

    def join(self) -> bool:
        """Wait until a stopped worker has ended, hardly longer than its grace period.

        Returns whether it has: otherwise it could not reach its database to record the last
        outcomes, and what it had claimed is due again when the leases are over.
        """
        if self._ledger is not None:
            self._wait()
        return not self.is_running

    def _start(self, until: Until) -> LedgerThread:
        premises = self._premises
        with diagnosed(premises.engine.url), read(premises.engine) as connection:
            schema.check(connection, premises.tables)
        ledger = LedgerThread(self._instruments(), until)
        self._ledger, before = ledger, self._ledger
        if self._is_stopped:
            ledger.stop()
        try:
            ledger.start()
        except BaseException:
            self._ledger = before
            raise
        if until is Until.STOPPED and can_listen(premises.engine):
            self._listener = self._started_listener()
        return ledger

    def _started_listener(self) -> Listener | None:
        listener = Listener(self._premises.engine, self.hint)
        try:
            listener.start()
        except (RuntimeError, MemoryError) as error:
            log.warning("cannot listen for notifications, mail is found by polling: %s", error)
            return None
        return listener

    def _wait(self, budget_s: float | None = None) -> None:
        """Wait for the end; once stopped, cut what takes longer than the grace period."""
        ledger = self._ledger
        assert ledger is not None
        stop_at = inf if budget_s is None else monotonic() + budget_s
        while ledger.is_alive() and not ledger.is_overdue(self._config.grace_s):
            ledger.join(_LOOK_UP_S)
            if monotonic() >= stop_at:
                ledger.stop()
        if ledger.is_alive():
            log.warning("stopped with mail still on the wire; it is in doubt where it was all out")
            ledger.cut()
            ledger.join(_LAST_COMMIT_S)
        self._clear_up()

    def _clear_up(self) -> None:
        if self._listener is not None:
            self._listener.stop()
            self._listener.join()
            self._listener = None
        self._is_stopped = False
        if self.is_running:
            log.error(
                "stopped without a database to record outcomes in; what was claimed is due again "
                "in %.0f s",
                self._config.lease_s,
            )
        else:
            self._premises.engine.dispose()

    def _instruments(self) -> Instruments:
        config = self._config
        desk = Desk()
        gate = Gate(max_unrecorded=config.max_unrecorded, clock=monotonic)
        office = Office(
            desk=desk,
            gate=gate,
            verdicts=Verdicts(
                doubt_s=config.doubt_s,
                max_resends=config.max_resends,
                random=self._premises.random,
            ),
            lines=self._premises.lines,
            lingers=self._premises.lingers,
            render_budget=config.render_budget,
        )
        return Instruments(
            books=Books(self._premises.engine, self._premises.tables, _heartbeat()),
            desk=desk,
            gate=gate,
            dispatch=self._dispatch(office),
            config=config,
            token=self._premises.token,
        )

    def _dispatch(self, office: Office) -> Dispatch:
        routing = self._premises.routing
        scheduler = Scheduler("postroom-senders", debug=self._config.debug_loop)
        outlets = {
            name: self._outlet(relay, office, scheduler) for name, relay in routing.relays.items()
        }
        breakers = {name: outlet.breaker for name, outlet in outlets.items()}
        return Dispatch(
            outlets=outlets,
            routers={name: Router(route, breakers) for name, route in routing.named().items()},
            routing=routing,
            screening=Screening(max_claims=self._config.max_claims),
        )

    def _outlet(self, relay: Relay, office: Office, scheduler: Scheduler) -> Outlet:
        weights = {lane.rank: weight for lane, weight in self._config.lane_weights.items()}

        def start(outlet: Outlet) -> Sender:
            sender = Sender(outlet, office)
            scheduler.spawn(sender.run)
            return sender

        return Outlet(
            relay,
            breaker=self._premises.lines.breaker(relay),
            throttle=self._premises.lines.throttle(relay),
            limit=self._premises.lines.limit(relay),
            queue=JobQueue(weights),
            start=start,
        )


def _heartbeat() -> Heartbeat:
    return Heartbeat(
        id=str(uuid.uuid4()),
        host=platform.node(),
        pid=os.getpid(),
        version=__version__,
        started_at=utc_now(),
    )
