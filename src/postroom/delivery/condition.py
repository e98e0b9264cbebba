"""A condition that senders wait for without holding up the other conversations of their thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from postroom.delivery.clock import monotonic
from postroom.delivery.hub import Flag, flag


class Condition:
    """As `threading.Condition`, for threads and for strands of a hub.

    Every method is called with ``lock`` held; waiting lets go of it meanwhile.
    """

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._waiting: deque[Flag] = deque()

    def wait(self, timeout_s: float) -> None:
        """Wait until notified, ``timeout_s`` at the most."""
        notified = flag()
        self._waiting.append(notified)
        self._lock.release()
        try:
            notified.wait(timeout_s)
        finally:
            self._lock.acquire()
            if notified in self._waiting:
                self._waiting.remove(notified)

    def wait_for(self, holds: Callable[[], object], timeout_s: float) -> None:
        """Wait until ``holds()`` is true, ``timeout_s`` at the most."""
        until = monotonic() + timeout_s
        while not holds() and (remaining_s := until - monotonic()) > 0:
            self.wait(remaining_s)

    def notify(self) -> None:
        """Let the one go on that has waited longest."""
        if self._waiting:
            self._waiting.popleft().set()

    def notify_all(self) -> None:
        """Let all go on that wait."""
        while self._waiting:
            self._waiting.popleft().set()
