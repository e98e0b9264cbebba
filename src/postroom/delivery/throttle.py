"""The rates of one relay, as its senders keep to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from postroom.smtp.limiter import DomainLimiter, Limiter
from postroom.storage.ledger import Claim
from postroom.values.rate import Rate
from postroom.values.relay import Relay


class Throttle:
    """Counts transactions against a relay's rate, and against that of each recipient domain.

    ``limiter`` makes one for a rate and a domain, which is empty for the relay's own.
    """

    def __init__(self, relay: Relay, limiter: Callable[[Rate, str], Limiter]) -> None:
        self._relay = None if relay.rate is None else limiter(relay.rate, "")
        rate = relay.domain_rate
        self._domains = None if rate is None else DomainLimiter(lambda name: limiter(rate, name))

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

    def _limiters(self, claims: Sequence[Claim]) -> list[Limiter]:
        if self._domains is None:
            return []
        domains = {claim.address.rpartition("@")[2].lower() for claim in claims}
        return [self._domains.of(domain) for domain in sorted(domains)]
