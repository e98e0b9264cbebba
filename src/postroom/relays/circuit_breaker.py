"""A breaker for one relay: it rests after faults of its own, until a probe says that it is back.

Only relay and credential faults open it; a bad address never does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from postroom.backoff import Backoff
from postroom.states import Fault

#: Whose faults open a breaker.
TRIPPING_FAULTS = frozenset({Fault.RELAY, Fault.CREDENTIALS})


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreakerConfig:
    """When a breaker opens and for how long. Times are in seconds."""

    #: Faults in a row, with nothing that worked in between.
    failure_threshold: int = 3
    #: The first rest; each further one is longer by ``backoff_factor``, up to
    #: ``max_reset_timeout_s``.
    reset_timeout_s: float = 1.0
    backoff_factor: float = 2.0
    max_reset_timeout_s: float = 300.0
    #: How long a probe may take before another one is let through.
    probe_timeout_s: float = 60.0

    @property
    def backoff(self) -> Backoff:
        """Return how long the breaker stays open, by how often it has opened."""
        return Backoff(
            first_s=self.reset_timeout_s,
            longest_s=self.max_reset_timeout_s,
            factor=self.backoff_factor,
        )


class CircuitBreaker:
    """Thread-safe; shared by every sender of a relay. ``clock`` is monotonic, in seconds."""

    def __init__(
        self, *, clock: Callable[[], float], config: CircuitBreakerConfig | None = None
    ) -> None:
        self._clock = clock
        self._config = config or CircuitBreakerConfig()
        self._lock = threading.Lock()
        #: Faults since something worked.
        self._faults = 0
        #: Rests since something worked.
        self._times_opened = 0
        #: Nothing is let through before; None: closed.
        self._open_until: float | None = None
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """Return whether the relay rests, or is being probed."""
        return self._open_until is not None

    def allow_request(self) -> bool:
        """Return whether the relay may be used now; after a rest only for one probe at a time.

        Whoever is let through records what came of it.
        """
        if not self.is_open:
            return True
        with self._lock:
            if self._open_until is None:
                return True
            now = self._clock()
            if now < self._open_until:
                return False
            self._is_probing = True
            self._open_until = now + self._config.probe_timeout_s
            return True

    def retry_after_s(self) -> float:
        """Return how long until it is worth asking again; 0 where the relay may be used."""
        if not self.is_open:
            return 0.0  # nearly always, and without the lock
        with self._lock:
            if self._open_until is None:
                return 0.0
            pause_s = max(self._open_until - self._clock(), 0.0)
            # A probe under way may succeed any moment.
            return min(pause_s, self._config.reset_timeout_s) if self._is_probing else pause_s

    def record(self, fault: Fault | None) -> None:
        """Take note of an outcome: None where it went well, else whose fault it was."""
        if fault is Fault.OURSELVES or (fault not in TRIPPING_FAULTS and not self._faults):
            return  # it says nothing about the relay, or nothing new
        with self._lock:
            if fault not in TRIPPING_FAULTS:
                # Whoever refuses one recipient is there, and knows us.
                self._reset_locked()
                return
            self._faults += 1
            if self._is_probing or (
                self._open_until is None and self._faults >= self._config.failure_threshold
            ):
                self._open()

    def reset(self) -> None:
        """Let the relay be used again: somebody has found it well."""
        with self._lock:
            self._reset_locked()

    def _reset_locked(self) -> None:
        self._faults = self._times_opened = 0
        self._open_until = None
        self._is_probing = False

    def _open(self) -> None:
        self._times_opened += 1
        self._open_until = self._clock() + self._config.backoff.pause_s(self._times_opened)
        self._is_probing = False
