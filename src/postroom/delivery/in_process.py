"""An outbox's own database engine, and the worker in this process, if there is one."""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Engine, select

from postroom.clock import monotonic
from postroom.delivery.config import WorkerConfig
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
    """Where an outbox delivers from. ``application`` is the application's engine.

    With ``redirect_all_to`` everything goes to that address. After a fork the child has neither
    worker nor connections: those are the parent's. A worker ends in order with its process.
    """

    def __init__(
        self,
        application: Engine | None,
        tables: Tables,
        relay: Relays | RoutingTable | None,
        config: WorkerConfig,
        redirect_all_to: Address | None = None,
        board: RedisStore | None = None,
    ) -> None:
        self._application = application
        self._tables = tables
        self._routing = RoutingTable.of(relay) if relay else None
        self._config = config
        direct = partial(connect, clock=monotonic)
        self._connect = redirecting(direct, redirect_all_to) if redirect_all_to else direct
        self._board = board
        self._lines = ConnectionPool(connect=self._connect, store=board)
        self._engine: Engine | None = None
        #: Held while the worker changes: threads of a server may ask for it at the same time.
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._is_started = False
        self._guests = 0
        self._hints = CommitHook(self._wake)
        self._others: list[Callable[[], None]] = []
        _posts.add(self)

    @property
    def engine(self) -> Engine:
        """The outbox's own engine; see `Outbox.engine`."""
        if self._application is None:
            raise ConfigError(
                "expected the outbox to know its database, got: none; "
                "make it with Outbox(…, engine=engine)"
            )
        if self._engine is None:
            self._engine = worker_engine(self._application.url)
        return self._engine

    def worker(self, config: WorkerConfig | None, *, keep_connections: bool = False) -> Worker:
        """Return a worker, not yet at work; see `Outbox.worker`."""
        if self._routing is None:
            raise ConfigError(
                "expected a relay to deliver to, got: none; make the outbox with "
                "Outbox('smtp://…'), or set POSTROOM_RELAY"
            )
        premises = WorkerContext(
            engine=self.engine,
            tables=self._tables,
            routing=self._routing,
            connections=self._lines,
            keep_connections=keep_connections,
        )
        return Worker(premises, config or self._config)

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
            self._guests += 1
        try:
            yield
        finally:
            with self._lock:
                self._guests -= 1
                is_over = not (self._guests or self._is_started)
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
        self._worker.start()

    def _detach(self) -> Worker | None:
        """Return the worker; this process has none any more."""
        worker, self._worker = self._worker, None
        self._is_started = False
        return worker

    def close(self) -> None:
        """Stop, and close the database connections."""
        self.stop()
        self._lines.close()
        if self._board is not None:
            self._board.close()
        if self._engine is not None:
            self._engine.dispose()

    def add_wakeup(self, hint: Callable[[], None]) -> None:
        """Call ``hint`` as well; see `Outbox.add_wakeup`."""
        self._others.append(hint)

    def wake_after_commit_of(self, session: SessionOrConnection) -> None:
        """Wake whoever delivers, as far as we know of anybody, once ``session`` has committed."""
        if self._worker is not None or self._others:
            self._hints.attach(session)

    def _wake(self) -> None:
        worker = self._worker
        if worker is not None:
            _give(worker.wake)
        for hint in self._others:
            _give(hint)

    def _reset_after_fork(self) -> None:
        """Leave what the parent has to the parent: closing it here would close it there."""
        _leaked_to_parent.append((self._worker, self._engine, self._lines))
        self._lock = threading.Lock()
        self._worker = self._engine = None
        self._is_started, self._guests = False, 0
        self._lines = ConnectionPool(connect=self._connect, store=self._board)


def _give(hint: Callable[[], None]) -> None:
    """Give a hint. The commit has happened: its caller must not take an error for a failed one."""
    try:
        hint()
    except Exception as error:
        log.warning("a hint failed, mail goes out with the next poll: %s", shorten_repr(error))


def _ended(worker: Worker | None) -> bool:
    """Stop ``worker``, if there is one; return whether it has recorded all its outcomes."""
    if worker is None:
        return True
    worker.stop()
    return worker.join()


_posts: weakref.WeakSet[InProcessWorker] = weakref.WeakSet()
#: Kept from the garbage collector, which would close it.
_leaked_to_parent: list[object] = []


def _begin_anew_in_child() -> None:
    for post in list(_posts):
        post._reset_after_fork()


def _stop_all() -> None:
    """Finish what is on the wire before the interpreter ends its threads in the midst of it."""
    for post in list(_posts):
        post.stop()


os.register_at_fork(after_in_child=_begin_anew_in_child)
atexit.register(_stop_all)


#: How often the database is asked; a person does not feel it.
_LOOK_EVERY_S = 0.05


def deliver_and_wait(
    post: InProcessWorker,
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
    if not _is_committed(post, tables, message_id):
        queries.status(session, tables, message_id)
        raise UnknownMessage(
            f"expected message {message_id} to be committed before it is delivered, got: a "
            "transaction that is still open; call session.commit() first"
        )
    with post.running():
        while _is_waiting(post, tables, message_id) and time.monotonic() < give_up_at:
            if (refused := post.refused) is not None:
                raise refused
            time.sleep(_LOOK_EVERY_S)
    with read_transaction(post.engine) as connection:
        return queries.status(connection, tables, message_id)


def _is_committed(post: InProcessWorker, tables: Tables, message_id: int) -> bool:
    message = tables.message.c
    with read_transaction(post.engine) as connection:
        return connection.scalar(select(message.id).where(message.id == message_id)) is not None


def _is_waiting(post: InProcessWorker, tables: Tables, message_id: int) -> bool:
    with read_transaction(post.engine) as connection:
        return queries.is_waiting(connection, tables, message_id)
