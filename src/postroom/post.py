"""An outbox's own database engine, and the worker in this process, if there is one."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Engine

from postroom.delivery.clock import monotonic
from postroom.delivery.lines import Lines
from postroom.delivery.routing import Relays, Routing
from postroom.delivery.worker import Premises, Worker
from postroom.hints import Hints
from postroom.log import Log
from postroom.smtp.blackboard import Blackboard
from postroom.smtp.redirect import redirecting
from postroom.smtp.transport import connect
from postroom.storage.engine import Executor, worker_engine
from postroom.storage.models import Tables
from postroom.values.address import Address
from postroom.values.config import WorkerConfig
from postroom.values.errors import ConfigError
from postroom.values.headers import shown

log = Log("postroom.worker")


class Post:
    """Where an outbox delivers from. ``application`` is the application's engine.

    With ``redirect_all_to`` everything goes to that address. After a fork the child has neither
    worker nor connections: those are the parent's. A worker ends in order with its process.
    """

    def __init__(
        self,
        application: Engine | None,
        tables: Tables,
        relay: Relays | Routing | None,
        config: WorkerConfig,
        redirect_all_to: Address | None = None,
        board: Blackboard | None = None,
    ) -> None:
        self._application = application
        self._tables = tables
        self._routing = Routing.of(relay) if relay else None
        self._config = config
        direct = partial(connect, clock=monotonic)
        self._connect = redirecting(direct, redirect_all_to) if redirect_all_to else direct
        self._board = board
        self._lines = Lines(connect=self._connect, board=board)
        self._engine: Engine | None = None
        #: Held while the worker changes: threads of a server may ask for it at the same time.
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._is_started = False
        self._guests = 0
        self._hints = Hints(self._hint)
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

    def worker(self, config: WorkerConfig | None, *, lingers: bool = False) -> Worker:
        """Return a worker, not yet at work; see `Outbox.worker`."""
        if self._routing is None:
            raise ConfigError(
                "expected a relay to deliver to, got: none; make the outbox with "
                "Outbox('smtp://…'), or set POSTROOM_RELAY"
            )
        premises = Premises(
            engine=self.engine,
            tables=self._tables,
            routing=self._routing,
            lines=self._lines,
            lingers=lingers,
        )
        return Worker(premises, config or self._config)

    @property
    def is_at_work(self) -> bool:
        """Return whether a worker of this process delivers."""
        return self._worker is not None and self._worker.is_running

    @property
    def refused(self) -> ConfigError | None:
        """Return why the database refuses what this process's worker needs, while it does."""
        return None if self._worker is None else self._worker.refused

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Deliver from this process meanwhile; what was started otherwise goes on afterwards."""
        with self._lock:
            self._begin()
            self._guests += 1
        try:
            yield
        finally:
            with self._lock:
                self._guests -= 1
                is_over = not (self._guests or self._is_started)
                worker = self._taken() if is_over else None
            _ended(worker)

    def start(self) -> None:
        """Put a worker to work in this process, if there is none."""
        with self._lock:
            self._begin()
            self._is_started = True

    def stop(self) -> bool:
        """Stop this process's worker; return whether all its outcomes were recorded."""
        with self._lock:
            worker = self._taken()
        return _ended(worker)

    def _begin(self) -> None:
        if self._worker is None:
            self._worker = self.worker(None)
        self._worker.start()

    def _taken(self) -> Worker | None:
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

    def hint_with(self, hint: Callable[[], None]) -> None:
        """Call ``hint`` as well; see `Outbox.hint_with`."""
        self._others.append(hint)

    def hint_after_commit_of(self, session: Executor) -> None:
        """Wake whoever delivers, as far as we know of anybody, once ``session`` has committed."""
        if self._worker is not None or self._others:
            self._hints.after_commit_of(session)

    def _hint(self) -> None:
        worker = self._worker
        if worker is not None:
            _give(worker.hint)
        for hint in self._others:
            _give(hint)

    def _begin_anew(self) -> None:
        """Leave what the parent has to the parent: closing it here would close it there."""
        _left_behind.append((self._worker, self._engine, self._lines))
        self._lock = threading.Lock()
        self._worker = self._engine = None
        self._is_started, self._guests = False, 0
        self._lines = Lines(connect=self._connect, board=self._board)


def _give(hint: Callable[[], None]) -> None:
    """Give a hint. The commit has happened: its caller must not take an error for a failed one."""
    try:
        hint()
    except Exception as error:
        log.warning("a hint failed, mail goes out with the next poll: %s", shown(error))


def _ended(worker: Worker | None) -> bool:
    """Stop ``worker``, if there is one; return whether it has recorded all its outcomes."""
    if worker is None:
        return True
    worker.stop()
    return worker.join()


_posts: weakref.WeakSet[Post] = weakref.WeakSet()
#: Kept from the garbage collector, which would close it.
_left_behind: list[object] = []


def _begin_anew_in_child() -> None:
    for post in list(_posts):
        post._begin_anew()


def _stop_all() -> None:
    """Finish what is on the wire before the interpreter ends its threads in the midst of it."""
    for post in list(_posts):
        post.stop()


os.register_at_fork(after_in_child=_begin_anew_in_child)
atexit.register(_stop_all)
