"""One job while it is being spoken: what is known of each recipient so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from postroom.delivery.clock import monotonic, utc_now
from postroom.delivery.job import Job
from postroom.delivery.mail import Letter
from postroom.storage.ledger import Claim
from postroom.values.envelope import Envelope
from postroom.values.reply import Outcome


@dataclass(slots=True, kw_only=True)
class Transaction:
    """A job being spoken, and what is known of each recipient so far."""

    job: Job
    envelope: Envelope
    letter: Letter
    outcomes: list[Outcome | None]
    at: datetime = field(default_factory=utc_now)
    began: float = field(default_factory=monotonic)
    passed: int = 0

    def open_claims(self) -> tuple[Claim, ...]:
        """Return the claims nothing has been decided about yet."""
        claims = self.job.claims
        if not any(self.outcomes):
            return claims
        return tuple(
            claim for claim, outcome in zip(claims, self.outcomes, strict=True) if outcome is None
        )

    def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Fill in what is known of the first open claims; the others stay open."""
        missing = self.outcomes.count(None) - len(outcomes)
        rest = iter((*outcomes, *(None,) * missing))
        self.outcomes = [outcome or next(rest) for outcome in self.outcomes]

    def settle_all(self, outcome: Outcome) -> None:
        """Give every open claim the same outcome."""
        self.settle([outcome] * self.outcomes.count(None))

    def decided(self) -> list[tuple[Claim, Outcome]]:
        """Return each claim about which something has been decided."""
        return [
            (claim, outcome)
            for claim, outcome in zip(self.job.claims, self.outcomes, strict=True)
            if outcome is not None
        ]
