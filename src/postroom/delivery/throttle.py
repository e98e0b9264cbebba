"""The rates of one relay, as its senders keep to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from postroom.smtp.limiter import DomainLimiter, RateLimiter
from postroom.storage.ledger import Claim
from postroom.values.relay import Relay


class Throttle:
    """Counts transactions against a relay's rate, and against that of each recipient domain."""

    def __init__(self, relay: Relay, clock: Callable[[], float]) -> None:
        self._relay = None if relay.rate is None else RateLimiter(relay.rate, clock=clock)
        self._domains = (
            None if relay.domain_rate is None else DomainLimiter(relay.domain_rate, clock=clock)
        )

    def relay_pause_s(self) -> float:
        """Return how long until the relay's own rate allows one more."""
        return 0.0 if self._relay is None else self._relay.pause_s()

    def domain_pause_s(self, claims: Sequence[Claim]) -> float:
        """Return how long until the domains of all ``claims`` may be written to."""
        return max((limiter.pause_s() for limiter in self._limiters(claims)), default=0.0)

    def take(self, claims: Sequence[Claim]) -> bool:
        """Count one more transaction where all rates allow it now; return whether they do."""
        if self._relay is None and self._domains is None:
            return True
        if self.domain_pause_s(claims) > 0 or not (self._relay is None or self._relay.take()):
            return False
        # Between the look and here another sender may have been faster: that mail waits.
        return all(limiter.take() for limiter in self._limiters(claims))

    def _limiters(self, claims: Sequence[Claim]) -> list[RateLimiter]:
        if self._domains is None:
            return []
        domains = {claim.address.rpartition("@")[2].lower() for claim in claims}
        return [self._domains.of(domain) for domain in sorted(domains)]
