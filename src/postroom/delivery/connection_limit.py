"""How many connections a relay lets us have: its own limit, found by being refused."""

from __future__ import annotations

import threading
from collections.abc import Callable

from postroom.backoff import Backoff

#: When one more connection is asked for.
_ASK_AGAIN = Backoff(first_s=60.0, longest_s=600.0)


class ConnectionLimit:
    """As many connections as the relay's URL says, or as few as it takes. Thread-safe.

    Args:
        most: the limit to begin with, and never to exceed.
        clock: monotonic, in seconds.
    """

    def __init__(self, most: int, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._most = most
        self._current = most
        #: How often in a row one more than before was refused.
        self._refusals = 0
        self._raise_at = 0.0
        #: The limit was raised, and nobody has been let in or refused since.
        self._is_raised = False

    def current(self) -> int:
        """Return the limit; now and then it is one more than before, to see whether that works."""
        if self._current >= self._most:
            return self._most
        with self._lock:
            if self._clock() >= self._raise_at and self._current < self._most:
                self._current += 1
                self._is_raised = True
                self._raise_at = self._clock() + _ASK_AGAIN.pause_s(self._refusals + 1)
            return self._current

    def refused(self, standing: int) -> None:
        """Take note that no more than the ``standing`` connections were let in."""
        with self._lock:
            if self._is_raised:
                self._refusals += 1
                self._is_raised = False
            self._current = min(max(standing, 1), self._most)
            self._raise_at = self._clock() + _ASK_AGAIN.pause_s(self._refusals + 1)

    def let_in(self, standing: int) -> None:
        """Take note that ``standing`` connections stand."""
        if self._current >= self._most:
            return
        with self._lock:
            self._current = max(self._current, min(standing, self._most))
            if self._is_raised and standing >= self._current:
                self._is_raised = False
                self._refusals = 0

    def forget(self) -> None:
        """Begin anew: the relay was away, and its limit may be another one."""
        with self._lock:
            self._current = self._most
            self._refusals = 0
            self._is_raised = False
