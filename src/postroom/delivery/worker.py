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

from postroom.clock import SYSTEM_CLOCK, Clock
from postroom.delivery.config import WorkerConfig
from postroom.delivery.coordinator import Coordinator, CoordinatorDeps, StopWhen
from postroom.delivery.dispatcher import Dispatcher, PreSendChecks
from postroom.delivery.outcome_buffer import CommitGate, OutcomeBuffer
from postroom.delivery.outcomes import OutcomePolicy
from postroom.delivery.scheduler import Scheduler
from postroom.delivery.sender import Sender, SenderContext
from postroom.delivery.sender_pool import LaneQueue, SenderPool
from postroom.delivery.unit_of_work import DeliveryStore
from postroom.delivery.wakeup import NotificationListener
from postroom.errors import ConfigError
from postroom.log import Log
from postroom.relays.pool import ConnectionPool
from postroom.relays.relay import Relay
from postroom.relays.routing import RoutingTable
from postroom.relays.selector import RelaySelector
from postroom.storage import schema
from postroom.storage.database_errors import explaining_setup_errors
from postroom.storage.engine import read_transaction
from postroom.storage.tables import Tables
from postroom.storage.workers import WorkerIdentity, can_listen
from postroom.version import __version__

log = Log("postroom.worker")

#: How often a worker that waits to be stopped looks whether it was.
_LOOK_UP_S = 0.25
#: How long the outcomes of what was cut may take to be recorded.
_LAST_COMMIT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """Where a worker works: a database of ours, and the routes that mail may take.

    Where ``keep_connections`` is set, it leaves its connections open, in ``connections``, for the
    next one of this process. ``random`` returns numbers from [0, 1), ``new_lease_token`` a fresh
    random one of 63 bits.
    """

    engine: Engine = field(repr=False)  # its URL may hold a secret
    tables: Tables
    routing: RoutingTable
    connections: ConnectionPool = field(default_factory=ConnectionPool)
    keep_connections: bool = False
    random: Callable[[], float] = field(default=SystemRandom().random)
    new_lease_token: Callable[[], int] = field(default=lambda: secrets.randbits(63))
    clock: Clock = SYSTEM_CLOCK


class Worker:
    """Claims, sends and records, in threads of its own. Any number may share one outbox.

    ``run`` blocks; ``start`` does not. ``stop`` may be called from any thread and from a signal
    handler.
    """

    def __init__(self, context: WorkerContext, config: WorkerConfig | None = None) -> None:
        self._context = context
        self._config = config or WorkerConfig()
        self._coordinator: Coordinator | None = None
        self._listener: NotificationListener | None = None
        #: Also where there is no coordinator yet: a signal may come while we begin.
        self._is_stopped = False

    @property
    def is_running(self) -> bool:
        """Return whether the worker is at work."""
        return self._coordinator is not None and self._coordinator.is_alive()

    @property
    def refused(self) -> ConfigError | None:
        """Return why the database refuses what a worker needs, while it does and will go on."""
        return None if self._coordinator is None else self._coordinator.refused

    def run(self, *, until_empty: bool = False) -> None:
        """Work until stopped, or until nothing is left in the queue, retries included.

        Raises:
            SchemaError: the tables are missing, too old or too new.
            ConfigError: the database cannot be reached; or, with ``until_empty``, it refuses what
                a worker needs, by its rights or its set-up.
        """
        coordinator = self._start(StopWhen.EMPTY if until_empty else StopWhen.TOLD)
        self._wait()
        if until_empty and coordinator.refused is not None:
            raise coordinator.refused

    def drain(self, budget_s: float | None = None) -> bool:
        """Work until nothing is due: what is deferred or leased by another worker stays.

        After ``budget_s`` seconds it stops as `stop` does. Returns whether it came to the end of
        what was due.

        Raises:
            SchemaError: the tables are missing, too old or too new.
            ConfigError: the database cannot be reached, or refuses what a worker needs.
        """
        coordinator = self._start(StopWhen.DRAINED)
        try:
            self._wait(budget_s)
        except BaseException:
            coordinator.stop()  # whoever interrupts us goes on, and this work should not
            raise
        if coordinator.refused is not None:
            raise coordinator.refused
        return not coordinator.is_stopping

    def start(self) -> None:
        """Begin to work, in the background; nothing happens where it does already.

        Raises:
            SchemaError: the tables are missing, too old or too new.
            ConfigError: the database cannot be reached.
        """
        if not self.is_running:
            self._start(StopWhen.TOLD)

    def wake(self) -> None:
        """Say that mail may be due; without a hint it is found within ``poll_interval_s``."""
        if self._coordinator is not None:
            self._coordinator.wake()

    def stop(self) -> None:
        """Claim nothing more; finish what is on the wire, give back the rest. Does not wait.

        A worker that has not begun yet will end at once when it does.
        """
        self._is_stopped = True
        if self._coordinator is not None:
            self._coordinator.stop()

    def join(self) -> bool:
        """Wait until a stopped worker has ended, hardly longer than its grace period.

        Returns whether it has: otherwise it could not reach its database to record the last
        outcomes, and what it had claimed is due again when the leases are over.
        """
        if self._coordinator is not None:
            self._wait()
        return not self.is_running

    def _start(self, until: StopWhen) -> Coordinator:
        context = self._context
        with (
            explaining_setup_errors(context.engine.url),
            read_transaction(context.engine) as connection,
        ):
            schema.check(connection, context.tables)
        coordinator = Coordinator(self._deps(), until)
        self._coordinator, before = coordinator, self._coordinator
        if self._is_stopped:
            coordinator.stop()
        try:
            coordinator.start()
        except BaseException:
            self._coordinator = before
            raise
        if until is StopWhen.TOLD and can_listen(context.engine):
            self._listener = self._started_listener()
        return coordinator

    def _started_listener(self) -> NotificationListener | None:
        listener = NotificationListener(self._context.engine, self.wake)
        try:
            listener.start()
        except (RuntimeError, MemoryError) as error:
            log.warning("cannot listen for notifications, mail is found by polling: %s", error)
            return None
        return listener

    def _wait(self, budget_s: float | None = None) -> None:
        """Wait for the end; once stopped, cut what takes longer than the grace period."""
        coordinator = self._coordinator
        assert coordinator is not None
        stop_at = inf if budget_s is None else self._context.clock.monotonic() + budget_s
        while coordinator.is_alive() and not coordinator.is_overdue(self._config.shutdown_grace_s):
            coordinator.join(_LOOK_UP_S)
            if self._context.clock.monotonic() >= stop_at:
                coordinator.stop()
        if coordinator.is_alive():
            log.warning("stopped with mail still on the wire; it is in doubt where it was all out")
            coordinator.abort()
            coordinator.join(_LAST_COMMIT_S)
        self._cleanup()

    def _cleanup(self) -> None:
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
            self._context.engine.dispose()

    def _deps(self) -> CoordinatorDeps:
        config = self._config
        buffer = OutcomeBuffer()
        gate = CommitGate(
            max_uncommitted=config.max_uncommitted, clock=self._context.clock.monotonic
        )
        senders = SenderContext(
            buffer=buffer,
            gate=gate,
            policy=OutcomePolicy(
                in_doubt_retry_s=config.in_doubt_retry_s,
                max_resends=config.max_resends,
                random=self._context.random,
            ),
            connections=self._context.connections,
            keep_connections=self._context.keep_connections,
            render_budget=config.render_budget,
            clock=self._context.clock,
        )
        return CoordinatorDeps(
            store=DeliveryStore(self._context.engine, self._context.tables, self._identity()),
            buffer=buffer,
            gate=gate,
            dispatcher=self._dispatcher(senders),
            config=config,
            new_lease_token=self._context.new_lease_token,
            clock=self._context.clock,
        )

    def _identity(self) -> WorkerIdentity:
        clock = self._context.clock
        return WorkerIdentity(
            id=str(uuid.uuid4()),
            host=platform.node(),
            pid=os.getpid(),
            version=__version__,
            started_at=clock.utc_now(),
        )

    def _dispatcher(self, senders: SenderContext) -> Dispatcher:
        routing = self._context.routing
        scheduler = Scheduler("postroom-senders", debug=self._config.debug_loop)
        pools = {
            name: self._sender_pool(relay, senders, scheduler)
            for name, relay in routing.relays.items()
        }
        breakers = {name: pool.breaker for name, pool in pools.items()}
        return Dispatcher(
            pools=pools,
            selectors={
                name: RelaySelector(route, breakers) for name, route in routing.named().items()
            },
            routing=routing,
            clock=self._context.clock,
            checks=PreSendChecks(
                max_claims_without_outcome=self._config.max_claims_without_outcome
            ),
        )

    def _sender_pool(
        self, relay: Relay, senders: SenderContext, scheduler: Scheduler
    ) -> SenderPool:
        weights = {lane.rank: weight for lane, weight in self._config.lane_weights.items()}

        def start(pool: SenderPool) -> Sender:
            sender = Sender(pool, senders)
            scheduler.spawn(sender.run)
            return sender

        return SenderPool(
            relay,
            breaker=self._context.connections.breaker(relay),
            throttle=self._context.connections.throttle(relay),
            limit=self._context.connections.limit(relay),
            queue=LaneQueue(weights),
            start=start,
        )
