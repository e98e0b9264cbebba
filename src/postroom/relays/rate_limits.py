"""Rate limits of a relay and of each recipient domain.

In no window of the rate's period are more mails sent than the rate allows.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Protocol

from postroom.relays.options import Rate
from postroom.relays.relay import Relay

#: How many recipient domains are remembered; the least recently used are forgotten.
_MAX_DOMAINS = 10_000


class RateLimiter(Protocol):
    """Counts mails against a rate."""

    def try_acquire(self) -> bool:
        """Count one mail if the rate allows it now; return whether it does."""
        ...

    def retry_after_s(self) -> float:
        """Return the seconds until one more mail is allowed; 0 if it is allowed now."""
        ...


class SlidingWindowLimiter:
    """Counts mails in a sliding window, in this process. Thread-safe.

    Args:
        rate: The limit.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, rate: Rate, *, clock: Callable[[], float]) -> None:
        self._period_s = rate.period_s
        self._clock = clock
        self._lock = threading.Lock()
        #: When the last ``rate.count`` mails were counted, oldest first.
        self._counted_at: deque[float] = deque(maxlen=rate.count)

    def try_acquire(self) -> bool:
        """Count one mail if the rate allows it now; return whether it does."""
        with self._lock:
            now = self._clock()
            if self._retry_after_s(now) > 0:
                return False
            self._counted_at.append(now)
            return True

    def retry_after_s(self) -> float:
        """Return the seconds until one more mail is allowed; 0 if it is allowed now."""
        with self._lock:
            return self._retry_after_s(self._clock())

    def _retry_after_s(self, now: float) -> float:
        if len(self._counted_at) < (self._counted_at.maxlen or 0):
            return 0.0
        return max(self._counted_at[0] + self._period_s - now, 0.0)


class PerDomainLimiter:
    """One limiter for each recipient domain.

    Args:
        new_limiter: Makes the limiter for a domain.
    """

    def __init__(self, new_limiter: Callable[[str], RateLimiter]) -> None:
        self._new_limiter = new_limiter
        self._lock = threading.Lock()
        self._limiters: OrderedDict[str, RateLimiter] = OrderedDict()

    def for_domain(self, domain: str) -> RateLimiter:
        """Return the limiter of a domain.

        Args:
            domain: The domain, in any case.
        """
        key = domain.lower()
        with self._lock:
            limiter = self._limiters.get(key)
            if limiter is None:
                limiter = self._limiters[key] = self._new_limiter(key)
            self._limiters.move_to_end(key)
            if len(self._limiters) > _MAX_DOMAINS:
                self._limiters.popitem(last=False)
            return limiter


class Addressed(Protocol):
    """Anything with an address."""

    @property
    def address(self) -> str:
        """Return the address, with its ``@``."""
        ...


class Throttle:
    """Counts transactions against ``Relay.rate`` and ``Relay.domain_rate``.

    Args:
        relay: The relay.
        new_limiter: Makes a limiter for a rate and a domain; the domain is empty for the rate of
            the relay itself.
    """

    def __init__(self, relay: Relay, new_limiter: Callable[[Rate, str], RateLimiter]) -> None:
        self._relay = None if relay.rate is None else new_limiter(relay.rate, "")
        rate = relay.domain_rate
        self._domains = (
            None if rate is None else PerDomainLimiter(lambda domain: new_limiter(rate, domain))
        )

    def relay_retry_after_s(self) -> float:
        """Return the seconds until the relay's own rate allows one more transaction."""
        return 0.0 if self._relay is None else self._relay.retry_after_s()

    def domain_retry_after_s(self, recipients: Sequence[Addressed]) -> float:
        """Return the seconds until the rates of all recipient domains allow one more transaction.

        Args:
            recipients: The recipients of the transaction.
        """
        return max((limiter.retry_after_s() for limiter in self._limiters(recipients)), default=0.0)

    def try_acquire(self, recipients: Sequence[Addressed]) -> bool:
        """Count one transaction if all rates allow it now; return whether they do.

        Args:
            recipients: The recipients of the transaction.
        """
        if self._relay is None and self._domains is None:
            return True
        if self.domain_retry_after_s(recipients) > 0 or not (
            self._relay is None or self._relay.try_acquire()
        ):
            return False
        # Another sender may have used the rate since the check above; then this mail waits.
        return all(limiter.try_acquire() for limiter in self._limiters(recipients))

    def _limiters(self, recipients: Sequence[Addressed]) -> list[RateLimiter]:
        if self._domains is None:
            return []
        domains = {one.address.rpartition("@")[2].lower() for one in recipients}
        return [self._domains.for_domain(domain) for domain in sorted(domains)]
