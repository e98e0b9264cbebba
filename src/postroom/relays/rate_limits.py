"""How fast a relay may be pressed: never more than its rate in any window of the rate's period."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Protocol

from postroom.relays.options import Rate
from postroom.relays.relay import Relay

#: Recipient domains whose last mails are remembered; those longest unused are forgotten.
_REMEMBERED_DOMAINS = 10_000


class RateLimiter(Protocol):
    """A rate that mails are counted against."""

    def try_acquire(self) -> bool:
        """Count one more mail where the rate allows it now; return whether it does."""
        ...

    def retry_after_s(self) -> float:
        """Return how long until one more is allowed; 0 where it is now."""
        ...


class SlidingWindowLimiter:
    """Counts what is sent in a sliding window. Thread-safe; ``clock`` is monotonic, in seconds."""

    def __init__(self, rate: Rate, *, clock: Callable[[], float]) -> None:
        self._period_s = rate.period_s
        self._clock = clock
        self._lock = threading.Lock()
        #: When the last ``rate.count`` were taken, oldest first.
        self._taken: deque[float] = deque(maxlen=rate.count)

    def try_acquire(self) -> bool:
        """Count one more mail where the rate allows it now; return whether it does."""
        with self._lock:
            now = self._clock()
            if self._retry_after_s(now) > 0:
                return False
            self._taken.append(now)
            return True

    def retry_after_s(self) -> float:
        """Return how long until one more is allowed; 0 where it is now."""
        with self._lock:
            return self._retry_after_s(self._clock())

    def _retry_after_s(self, now: float) -> float:
        if len(self._taken) < (self._taken.maxlen or 0):
            return 0.0
        return max(self._taken[0] + self._period_s - now, 0.0)


class PerDomainLimiter:
    """One limiter for each recipient domain; ``limiter`` makes one for a name."""

    def __init__(self, limiter: Callable[[str], RateLimiter]) -> None:
        self._limiter = limiter
        self._lock = threading.Lock()
        self._limiters: OrderedDict[str, RateLimiter] = OrderedDict()

    def for_domain(self, domain: str) -> RateLimiter:
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


class Addressed(Protocol):
    """Whoever has an address."""

    @property
    def address(self) -> str:
        """The address, with its ``@``."""
        ...


class Throttle:
    """Counts transactions against a relay's rate, and against that of each recipient domain.

    ``limiter`` makes one for a rate and a domain, which is empty for the relay's own.
    """

    def __init__(self, relay: Relay, limiter: Callable[[Rate, str], RateLimiter]) -> None:
        self._relay = None if relay.rate is None else limiter(relay.rate, "")
        rate = relay.domain_rate
        self._domains = None if rate is None else PerDomainLimiter(lambda name: limiter(rate, name))

    def relay_retry_after_s(self) -> float:
        """Return how long until the relay's own rate allows one more."""
        return 0.0 if self._relay is None else self._relay.retry_after_s()

    def domain_retry_after_s(self, recipients: Sequence[Addressed]) -> float:
        """Return how long until the domains of all ``recipients`` may be written to."""
        return max((limiter.retry_after_s() for limiter in self._limiters(recipients)), default=0.0)

    def try_acquire(self, recipients: Sequence[Addressed]) -> bool:
        """Count one more transaction where all rates allow it now; return whether they do."""
        if self._relay is None and self._domains is None:
            return True
        if self.domain_retry_after_s(recipients) > 0 or not (
            self._relay is None or self._relay.try_acquire()
        ):
            return False
        # Between the look and here another sender may have been faster: that mail waits.
        return all(limiter.try_acquire() for limiter in self._limiters(recipients))

    def _limiters(self, recipients: Sequence[Addressed]) -> list[RateLimiter]:
        if self._domains is None:
            return []
        domains = {one.address.rpartition("@")[2].lower() for one in recipients}
        return [self._domains.for_domain(domain) for domain in sorted(domains)]
