"""What a task does in the process that runs it: drain the outbox, one task at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from postroom.delivery.worker import Worker
from postroom.outbox import Outbox

_CONNECT_S = 2.0
_ANSWER_S = 5.0

#: Kombu would otherwise go on connecting for ever.
_ONCE = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}


class TaskPublisher:
    """Sends ``task`` of ``app`` without arguments. Belongs to one thread."""

    def __init__(self, app: Any, task: Any, options: Mapping[str, Any]) -> None:
        self._app = app
        self._task = task
        self._options = options
        self._connection: Any = None

    def send(self) -> None:
        """Send one message; a connection that the broker has dropped meanwhile is made anew.

        Raises whatever Kombu and the transport raise where the broker cannot be reached.
        """
        is_reused = self._connection is not None
        try:
            self._send()
        except Exception:
            self._drop()
            if not is_reused:
                raise
            self._send()

    def _send(self) -> None:
        if self._connection is None:
            self._connection = self._connected()
        self._task.apply_async(connection=self._connection, retry=False, **self._options)

    def _connected(self) -> Any:
        connection = self._app.connection_for_write(connect_timeout=_CONNECT_S)
        connection.transport_options = {**connection.transport_options, **_ONCE}
        if connection.transport.driver_type == "redis":
            connection.transport_options |= {
                "socket_connect_timeout": _CONNECT_S,
                "socket_timeout": _ANSWER_S,
            }
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        with suppress(Exception):
            connection.release()


class OutboxDrainer:
    """Drains what is due, for ``budget_s`` at the most; any thread may call `work`.

    Relays' connections, breakers and rates are the outbox's, and last from one call to the next.
    """

    def __init__(
        self, outbox: Outbox, budget_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._outbox = outbox
        self._budget_s = budget_s
        self._clock = clock
        self._at_work = threading.Lock()
        self._wanted = threading.Event()
        self._worker: Worker | None = None

    def drain(self) -> bool:
        """Drain the outbox; return False where the time was up before all that was due had gone.

        Where another thread is at it already that one is told, and this call returns at once.
        """
        stop_at = self._clock() + self._budget_s
        is_drained = True
        self._wanted.set()
        self._wake()
        # Whoever comes when the other is about to finish is heard by one of the two.
        while is_drained and self._wanted.is_set() and self._at_work.acquire(blocking=False):
            try:
                self._wanted.clear()
                is_drained = self._drain(stop_at - self._clock())
            finally:
                self._at_work.release()
        return is_drained

    def stop(self) -> None:
        """Let the drain under way end; may be called from a signal handler."""
        if (worker := self._worker) is not None:
            worker.stop()

    def _wake(self) -> None:
        if (worker := self._worker) is not None:
            worker.wake()

    def _drain(self, budget_s: float) -> bool:
        if budget_s <= 0:
            return False
        self._worker = self._outbox.worker(keep_connections=True)
        try:
            return self._worker.drain(budget_s)
        finally:
            self._worker = None
