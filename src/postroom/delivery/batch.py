"""What one claim transaction leased to this worker, and until when it may be acted on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from postroom.storage.ledger import Claim


class Batch:
    """The claims under one token that are still in this worker's hands.

    Owned by the ledger thread; senders only read. Reads need no lock: a key in a dict and a
    float are each replaced in one step.
    """

    __slots__ = ("_claims", "_lease_s", "_until", "safe_until", "token")

    def __init__(
        self, claims: Iterable[Claim], *, token: int, lease_s: float, claimed_at: float
    ) -> None:
        self.token = token
        self._lease_s = lease_s
        self.renewed(claimed_at)
        self._claims = {claim.recipient_id: claim for claim in claims}

    @property
    def claims(self) -> list[Claim]:
        """Return what is still held."""
        return list(self._claims.values())

    @property
    def renew_at(self) -> float:
        """Return when (local clock) the lease should be renewed: after a third of it."""
        return self._until - self._lease_s * 2 / 3

    def is_safe(self, claims: Sequence[Claim], now: float) -> bool:
        """Return whether ``claims`` are all held, and for long enough."""
        if now >= self.safe_until:
            return False
        # Twice as fast as all(…) for the one claim that there mostly is, several times a mail.
        for claim in claims:  # noqa: SIM110
            if claim.recipient_id not in self._claims:
                return False
        return True

    def renewed(self, renewed_at: float) -> None:
        """Take note that the lease runs from ``renewed_at`` again."""
        self._until = renewed_at + self._lease_s
        #: Until when (local clock) a final dot may be written: half the lease is left.
        self.safe_until = renewed_at + self._lease_s / 2

    def drop(self, claim: Claim) -> bool:
        """Let go of one claim; return whether it was held."""
        return self._claims.pop(claim.recipient_id, None) is not None

    @property
    def is_empty(self) -> bool:
        """Return whether nothing is held any more."""
        return not self._claims
