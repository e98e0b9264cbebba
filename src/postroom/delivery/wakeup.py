"""What wakes a worker before it polls: the commit of an enqueue, or the database's NOTIFY."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session, scoped_session

from postroom.log import Log
from postroom.storage.engine import SessionOrConnection
from postroom.storage.workers import listen


class CommitHook:
    """Calls ``wake`` after the commit of a transaction that enqueued something.

    Nothing is lost where it is not called: workers poll in any case.

    Args:
        wake: Is called without arguments, in the thread that committed.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        #: In a session's ``info`` between an enqueue and its commit.
        self._pending = f"postroom_pending_wakeup_{id(self)}"

    def attach(self, session: SessionOrConnection) -> None:
        """Call ``wake`` once the outermost transaction of ``session`` has committed.

        A bare `Connection` has no such event; what it enqueued is found by polling.

        Args:
            session: What the enqueue was given.
        """
        if isinstance(session, Connection):
            return
        one = session() if isinstance(session, scoped_session) else session
        one.info[self._pending] = True
        if not event.contains(one, "after_commit", self._committed):
            event.listen(one, "after_commit", self._committed)

    def _committed(self, session: Session) -> None:
        # The event comes for a savepoint as well, which is still part of it there.
        if not session.in_nested_transaction() and session.info.pop(self._pending, False):
            self._wake()


log = Log("postroom.worker")

_LOOK_UP_S = 0.25
_RECONNECT_S = 1.0


class NotificationListener(threading.Thread):
    """Calls ``wake`` for each notification, over a connection of its own, until it is stopped.

    Nothing is lost while it cannot listen: the worker polls in any case.

    Args:
        engine: A PostgreSQL engine whose driver can listen.
        wake: Is called without arguments, in this thread.
    """

    def __init__(self, engine: Engine, wake: Callable[[], None]) -> None:
        super().__init__(name="postroom-listener", daemon=True)
        self._engine = engine
        self._wake = wake
        self._stopped = threading.Event()

    def run(self) -> None:
        """Listen, and begin again after each lost connection."""
        while not self._stopped.is_set():
            try:
                self._listen()
            except Exception:
                log.exception("cannot listen for notifications; mail is found by polling")
            self._stopped.wait(_RECONNECT_S)

    def stop(self) -> None:
        """End soon."""
        self._stopped.set()

    def _listen(self) -> None:
        with closing(listen(self._engine, _LOOK_UP_S)) as arrivals:
            for has_arrived in arrivals:
                if self._stopped.is_set():
                    return
                if has_arrived:
                    self._wake()
