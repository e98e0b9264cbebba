"""The worker in this process, if there is one, and an outbox's own database engine."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial

from sqlalchemy import Engine, select

from postroom.clock import monotonic
from postroom.delivery.config import WorkerConfig
from postroom.delivery.scheduler import register_exit_hook
from postroom.delivery.wakeup import CommitHook
from postroom.delivery.worker import Worker, WorkerContext
from postroom.errors import ConfigError, UnknownMessage
from postroom.log import Log
from postroom.message.address import Address
from postroom.relays.pool import ConnectionPool
from postroom.relays.redis_store import RedisStore
from postroom.relays.routing import Relays, RoutingTable
from postroom.smtp.redirect import redirecting
from postroom.smtp.transport import connect
from postroom.storage import queries
from postroom.storage.engine import SessionOrConnection, read_transaction, worker_engine
from postroom.storage.queries import MessageStatus
from postroom.storage.tables import Tables
from postroom.text import shorten_repr

log = Log("postroom.worker")


class InProcessWorker:
    """The worker of this process, for one outbox.

    After a fork the child has neither worker nor connections: those are the parent's. When the
    process ends, the worker finishes the mail that it is sending.

    Args:
        application: The application's engine, for the URL of the database.
        tables: The outbox's tables.
        relay: Where mail goes.
        config: How workers work, where nothing else is said.
        redirect_all_to: Every mail goes to this address instead, where it is given.
        redis: Where rates and circuit breakers are shared, if at all.
    """

    def __init__(
        self,
        application: Engine | None,
        tables: Tables,
        relay: Relays | RoutingTable | None,
        config: WorkerConfig,
        redirect_all_to: Address | None = None,
        redis: RedisStore | None = None,
    ) -> None:
        self.application = application
        self.routing = RoutingTable.of(relay) if relay else None
        self._tables = tables
        self._config = config
        direct = partial(connect, clock=monotonic)
        self._connect = redirecting(direct, redirect_all_to) if redirect_all_to else direct
        self._redis = redis
        self._connections = ConnectionPool(connect=self._connect, store=redis)
        self._engine: Engine | None = None
        #: Held while the worker changes: threads of a server may ask for it at the same time.
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._is_started = False
        self._active_contexts = 0
        self._commit_hook = CommitHook(self._wake)
        self._callbacks: list[Callable[[], None]] = []
        _in_process_workers.add(self)

    @property
    def engine(self) -> Engine:
        """The outbox's own engine; see `Outbox.engine`."""
        if self.application is None:
            raise ConfigError(
                "the outbox does not know its database: make it with Outbox(…, engine=engine)"
            )
        if self._engine is None:
            _register_fork_hook()
            self._engine = worker_engine(self.application.url)
        return self._engine

    def worker(self, config: WorkerConfig | None, *, keep_connections: bool = False) -> Worker:
        """Return a worker, not yet at work; see `Outbox.worker`."""
        if self.routing is None:
            raise ConfigError(
                "there is no relay to deliver to: make the outbox with Outbox('smtp://…'), or set "
                "POSTROOM_RELAY"
            )
        register_exit_hook()
        context = WorkerContext(
            engine=self.engine,
            tables=self._tables,
            routing=self.routing,
            connections=self._connections,
            keep_connections=keep_connections,
        )
        return Worker(context, config or self._config)

    @property
    def is_running(self) -> bool:
        """Return whether a worker of this process delivers."""
        return self._worker is not None and self._worker.is_running

    @property
    def refused(self) -> ConfigError | None:
        """Return why the database refuses what this process's worker needs, while it does."""
        return None if self._worker is None else self._worker.refused

    @contextmanager
    def running(self) -> Iterator[None]:
        """Deliver from this process meanwhile; what was started otherwise goes on afterwards."""
        with self._lock:
            self._start_locked()
            self._active_contexts += 1
        try:
            yield
        finally:
            with self._lock:
                self._active_contexts -= 1
                is_over = not (self._active_contexts or self._is_started)
                worker = self._detach() if is_over else None
            _ended(worker)

    def start(self) -> None:
        """Put a worker to work in this process, if there is none."""
        with self._lock:
            self._start_locked()
            self._is_started = True

    def stop(self) -> bool:
        """Stop this process's worker; return whether all its outcomes were recorded."""
        with self._lock:
            worker = self._detach()
        return _ended(worker)

    def _start_locked(self) -> None:
        if self._worker is None:
            self._worker = self.worker(None)
        _register_exit_hook()
        self._worker.start()

    def _detach(self) -> Worker | None:
        """Return the worker; this process has none any more."""
        worker, self._worker = self._worker, None
        self._is_started = False
        return worker

    def close(self) -> None:
        """Stop, and close the database connections."""
        self.stop()
        self._connections.close()
        if self._redis is not None:
            self._redis.close()
        if self._engine is not None:
            self._engine.dispose()

    def add_wakeup(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` as well; see `Outbox.add_wakeup`."""
        self._callbacks.append(callback)

    def wake_after_commit_of(self, session: SessionOrConnection) -> None:
        """Wake the workers that we know of, once ``session`` has committed."""
        if self._worker is not None or self._callbacks:
            self._commit_hook.attach(session)

    def _wake(self) -> None:
        worker = self._worker
        if worker is not None:
            _call(worker.wake)
        for callback in self._callbacks:
            _call(callback)

    def _reset_after_fork(self) -> None:
        """Leave what the parent has to the parent: closing it here would close it there."""
        _leaked_to_parent.append((self._worker, self._engine, self._connections))
        self._lock = threading.Lock()
        self._worker = self._engine = None
        self._is_started, self._active_contexts = False, 0
        self._connections = ConnectionPool(connect=self._connect, store=self._redis)


def _call(callback: Callable[[], None]) -> None:
    """Call back after a commit: its caller must not take an error for a commit that failed."""
    try:
        callback()
    except Exception as error:
        log.warning("a wakeup failed, mail goes out with the next poll: %s", shorten_repr(error))


def _ended(worker: Worker | None) -> bool:
    """Stop ``worker``, if there is one; return whether it has recorded all its outcomes."""
    if worker is None:
        return True
    worker.stop()
    return worker.join()


_in_process_workers: weakref.WeakSet[InProcessWorker] = weakref.WeakSet()
#: Kept from the garbage collector, which would close it.
_leaked_to_parent: list[object] = []


def _reset_child() -> None:
    for one in list(_in_process_workers):
        one._reset_after_fork()


def _stop_all() -> None:
    """Finish the mail that is being sent, before the interpreter ends its threads."""
    for one in list(_in_process_workers):
        one.stop()


# Who only imports us, or only enqueues, has nothing to leave to the parent or to finish.
@cache
def _register_fork_hook() -> None:
    os.register_at_fork(after_in_child=_reset_child)


@cache
def _register_exit_hook() -> None:
    atexit.register(_stop_all)


#: How often the database is asked; a person does not feel it.
_LOOK_EVERY_S = 0.05


def deliver_and_wait(
    in_process: InProcessWorker,
    tables: Tables,
    session: SessionOrConnection,
    message_id: int,
    *,
    timeout_s: float,
) -> MessageStatus:
    """Deliver from this process until nothing more happens to a message, or time is up.

    ``session`` is asked only where nobody else can see the message.

    Raises:
        UnknownMessage: there is no such message, or it is not committed.
        ConfigError: there is no engine or no relay, or the database cannot be used.
    """
    give_up_at = time.monotonic() + timeout_s
    if not _is_committed(in_process, tables, message_id):
        queries.status(session, tables, message_id)
        raise UnknownMessage(
            f"message {message_id} is not committed yet: call session.commit() before deliver()"
        )
    with in_process.running():
        while _is_waiting(in_process, tables, message_id) and time.monotonic() < give_up_at:
            if (refused := in_process.refused) is not None:
                raise refused
            time.sleep(_LOOK_EVERY_S)
    with read_transaction(in_process.engine) as connection:
        return queries.status(connection, tables, message_id)


def _is_committed(in_process: InProcessWorker, tables: Tables, message_id: int) -> bool:
    message = tables.message.c
    with read_transaction(in_process.engine) as connection:
        return connection.scalar(select(message.id).where(message.id == message_id)) is not None


def _is_waiting(in_process: InProcessWorker, tables: Tables, message_id: int) -> bool:
    with read_transaction(in_process.engine) as connection:
        return queries.is_waiting(connection, tables, message_id)
