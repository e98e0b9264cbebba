"""What a task does in the process that runs it: drain the outbox, one task at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from postroom.delivery.worker import Worker
from postroom.outbox import Outbox


class Shift:
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

    def work(self) -> bool:
        """Drain the outbox; return False where the time was up before all that was due had gone.

        Where another thread is at it already that one is told, and this call returns at once.
        """
        stop_at = self._clock() + self._budget_s
        is_drained = True
        self._wanted.set()
        self._hint()
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

    def _hint(self) -> None:
        if (worker := self._worker) is not None:
            worker.hint()

    def _drain(self, budget_s: float) -> bool:
        if budget_s <= 0:
            return False
        self._worker = self._outbox.worker(lingers=True)
        try:
            return self._worker.drain(budget_s)
        finally:
            self._worker = None
