"""A breaker for each relay: while a relay or our login at it fails, nobody presses on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from postroom.values.states import Fault

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 300.0

#: Only these say something about the relay; a bad address never does.
_TRIPPING = frozenset({Fault.RELAY, Fault.CREDENTIALS})


class Breaker:
    """Closed, open for a while, then half-open for one probe. Safe from any thread.

    ``clock`` is monotonic, in seconds. Each failure of a probe doubles the pause, from 1 s to
    5 min; a success closes the breaker and forgets.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._pause_s = 0.0
        self._open_until = 0.0
        self._is_probing = False
        self._reason = ""

    @property
    def reason(self) -> str:
        """Return what opened the breaker last."""
        return self._reason

    def rest_s(self) -> float:
        """Return how long the relay still rests; 0 where it may be tried."""
        return max(self._open_until - self._clock(), 0.0) if self._pause_s else 0.0

    def permits(self) -> bool:
        """Return whether a connection may be made now; after a rest that is one probe alone."""
        with self._lock:
            if not self._pause_s:
                return True
            if self._is_probing or self.rest_s() > 0:
                return False
            self._is_probing = True
            return True

    def record(self, fault: Fault | None, reason: str = "") -> None:
        """Take note of how it went: the fault, or None where the relay did its work."""
        if fault is None and not self._pause_s:
            return
        with self._lock:
            if fault is None:
                self._pause_s = 0.0
                self._is_probing = False
            elif fault in _TRIPPING and self.rest_s() <= 0:
                # Senders that failed together open it once.
                self._pause_s = min(max(self._pause_s * 2, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
                self._open_until = self._clock() + self._pause_s
                self._is_probing = False
                self._reason = reason
