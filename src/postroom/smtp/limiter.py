"""How fast a relay may be pressed: never more than its rate in any window of the rate's period."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Protocol

from postroom.values.rate import Rate

#: Recipient domains whose last mails are remembered; those longest unused are forgotten.
_REMEMBERED_DOMAINS = 10_000


class Limiter(Protocol):
    """A rate that mails are counted against."""

    def take(self) -> bool:
        """Count one more mail where the rate allows it now; return whether it does."""
        ...

    def pause_s(self) -> float:
        """Return how long until one more is allowed; 0 where it is now."""
        ...


class RateLimiter:
    """Counts what is sent in a sliding window. Thread-safe; ``clock`` is monotonic, in seconds."""

    def __init__(self, rate: Rate, *, clock: Callable[[], float]) -> None:
        self._period_s = rate.period_s
        self._clock = clock
        self._lock = threading.Lock()
        #: When the last ``rate.count`` were taken, oldest first.
        self._taken: deque[float] = deque(maxlen=rate.count)

    def take(self) -> bool:
        """Count one more mail where the rate allows it now; return whether it does."""
        with self._lock:
            now = self._clock()
            if self._pause_s(now) > 0:
                return False
            self._taken.append(now)
            return True

    def pause_s(self) -> float:
        """Return how long until one more is allowed; 0 where it is now."""
        with self._lock:
            return self._pause_s(self._clock())

    def _pause_s(self, now: float) -> float:
        if len(self._taken) < (self._taken.maxlen or 0):
            return 0.0
        return max(self._taken[0] + self._period_s - now, 0.0)


class DomainLimiter:
    """One limiter for each recipient domain; ``limiter`` makes one for a name."""

    def __init__(self, limiter: Callable[[str], Limiter]) -> None:
        self._limiter = limiter
        self._lock = threading.Lock()
        self._limiters: OrderedDict[str, Limiter] = OrderedDict()

    def of(self, domain: str) -> Limiter:
        """Return the limiter of ``domain``, in whatever case it is written."""
        key = domain.lower()
        with self._lock:
            limiter = self._limiters.get(key)
            if limiter is None:
                limiter = self._limiters[key] = self._limiter(key)
            self._limiters.move_to_end(key)
            if len(self._limiters) > _REMEMBERED_DOMAINS:
                self._limiters.popitem(last=False)
            return limiter
