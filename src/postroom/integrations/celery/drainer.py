"""What the task runs: drain the outbox, one task at a time in each process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from postroom.delivery.worker import Worker
from postroom.outbox import Outbox


class OutboxDrainer:
    """Drains the outbox for a limited time; any thread may call `drain`.

    Connections to relays, circuit breakers and rate limits belong to the outbox, and last from one
    call to the next.

    Args:
        outbox: The outbox.
        budget_s: The most seconds that one call takes.
        clock: A monotonic clock.
    """

    def __init__(
        self, outbox: Outbox, budget_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._outbox = outbox
        self._budget_s = budget_s
        self._clock = clock
        self._lock = threading.Lock()
        self._requested = threading.Event()
        self._worker: Worker | None = None

    def drain(self) -> bool:
        """Drain the outbox; return False if the time was up before everything due was sent.

        If another thread is draining already, that one is told to look again, and this call returns
        at once.
        """
        stop_at = self._clock() + self._budget_s
        is_drained = True
        self._requested.set()
        self._wake()
        # A request that comes while the other thread is finishing is seen by one of the two.
        while is_drained and self._requested.is_set() and self._lock.acquire(blocking=False):
            try:
                self._requested.clear()
                is_drained = self._drain(stop_at - self._clock())
            finally:
                self._lock.release()
        return is_drained

    def stop(self) -> None:
        """End the current drain soon. May be called from a signal handler."""
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
