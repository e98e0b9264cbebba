"""Claims that no relay should hear of: suppressed, expired, poison, or in doubt from before."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from postroom.delivery.verdict import without_attempt
from postroom.storage.contents import StoredMessage
from postroom.storage.ledger import Claim, Result
from postroom.values.states import Fault, RecipientState


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """Decides without a relay. ``max_claims`` leases without an outcome make a claim poison."""

    max_claims: int

    def result(self, claim: Claim, message: StoredMessage, now: datetime) -> Result | None:
        """Return what to record at once; None where the claim is to be sent."""
        if claim.has_intent:
            return _begun(claim, now)
        if claim.claims > self.max_claims:
            return without_attempt(
                claim,
                RecipientState.REJECTED,
                f"set aside: claimed {self.max_claims} times without an outcome; "
                "see the workers' logs, then `postroom retry`",
                at=now,
                fault=Fault.OURSELVES,
            )
        if claim.suppressed_because is not None:
            return without_attempt(
                claim,
                RecipientState.SUPPRESSED,
                f"suppressed: {claim.suppressed_because}",
                at=now,
            )
        if message.expires_at is not None and message.expires_at.timestamp() <= claim.claimed_at:
            return without_attempt(
                claim,
                RecipientState.EXPIRED,
                f"expired at {message.expires_at.isoformat()}",
                at=now,
            )
        return None

    def unreadable(self, claim: Claim, now: datetime, because: str) -> Result:
        """Return what to record where rows cannot be read: the recipient's, or its message's."""
        if claim.has_intent:
            return _begun(claim, now)
        return without_attempt(
            claim,
            RecipientState.REJECTED,
            f"not sent: {because}; mend the row, then `postroom retry`",
            at=now,
            fault=Fault.OURSELVES,
        )


def _begun(claim: Claim, now: datetime) -> Result:
    return without_attempt(
        claim,
        RecipientState.IN_DOUBT,
        "a worker ended after it had begun to write the final dot; decide with `postroom resolve`",
        at=now,
        fault=Fault.OURSELVES,
    )
