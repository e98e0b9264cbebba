"""A circuit breaker for one relay: after repeated faults the relay is not used for a while.

Only faults of the relay or the credentials open it; a bad address or message never does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from postroom.backoff import Backoff
from postroom.states import Fault

#: The faults that open a circuit breaker.
TRIPPING_FAULTS = frozenset({Fault.RELAY, Fault.CREDENTIALS})


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitBreakerConfig:
    """When a circuit breaker opens, and for how long.

    Attributes:
        failure_threshold: How many faults in a row, without a success between them, open it.
        reset_timeout_s: How long it stays open the first time, in seconds.
        backoff_factor: Each further time, while no success comes between, it stays open longer by
            this factor.
        max_reset_timeout_s: The longest time that it stays open, in seconds.
        probe_timeout_s: How long a probe may take before another one is allowed, in seconds.
    """

    failure_threshold: int = 3
    reset_timeout_s: float = 1.0
    backoff_factor: float = 2.0
    max_reset_timeout_s: float = 300.0
    probe_timeout_s: float = 60.0

    def open_s(self, times_opened: int) -> float:
        """Return how long a breaker stays open, in seconds.

        Args:
            times_opened: How often it was opened before, since the last success.
        """
        backoff = Backoff(
            first_s=self.reset_timeout_s,
            longest_s=self.max_reset_timeout_s,
            factor=self.backoff_factor,
        )
        return backoff.pause_s(times_opened + 1)


class CircuitBreaker:
    """Decides whether a relay may be used; shared by all of its senders. Thread-safe.

    Args:
        clock: A monotonic clock, in seconds.
        config: When it opens, and for how long; None: the defaults.
    """

    def __init__(
        self, *, clock: Callable[[], float], config: CircuitBreakerConfig | None = None
    ) -> None:
        self._clock = clock
        self._config = config or CircuitBreakerConfig()
        self._lock = threading.Lock()
        #: Faults since the last success.
        self._faults = 0
        #: How often it was opened since the last success.
        self._times_opened = 0
        #: When the next request is allowed; None: it is closed.
        self._open_until: float | None = None
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """Return whether the circuit breaker is open, also while a probe is running."""
        return self._open_until is not None

    def allow_request(self) -> bool:
        """Return whether the relay may be used now; when it was open, by one probe at a time.

        Callers that get True must call ``record`` with the outcome.
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
        """Return the seconds until it is worth asking again; 0 if the relay may be used now."""
        if not self.is_open:
            return 0.0  # nearly always, and without the lock
        with self._lock:
            if self._open_until is None:
                return 0.0
            wait_s = max(self._open_until - self._clock(), 0.0)
            # A running probe may succeed at any moment.
            return min(wait_s, self._config.reset_timeout_s) if self._is_probing else wait_s

    def record(self, fault: Fault | None) -> None:
        """Count an outcome.

        Args:
            fault: Whose fault a failure was; None: it was a success.
        """
        if fault is Fault.OURSELVES or (fault not in TRIPPING_FAULTS and not self._faults):
            return  # it tells nothing about the relay, or nothing new
        with self._lock:
            if fault not in TRIPPING_FAULTS:
                # A refusal of one recipient proves that the relay is up and accepts our login.
                self._reset_locked()
                return
            self._faults += 1
            if self._is_probing or (
                self._open_until is None and self._faults >= self._config.failure_threshold
            ):
                self._open_locked()

    def reset(self) -> None:
        """Close the circuit breaker: the relay is known to work."""
        with self._lock:
            self._reset_locked()

    def _reset_locked(self) -> None:
        self._faults = self._times_opened = 0
        self._open_until = None
        self._is_probing = False

    def _open_locked(self) -> None:
        self._open_until = self._clock() + self._config.open_s(self._times_opened)
        self._times_opened += 1
        self._is_probing = False
