"""What this worker has claimed, how much more it may, and until when it may act on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from postroom.storage.queue.records import Claim

_LEAST = 16
#: Rates are averaged over about this long.
_MEMORY_S = 1.0


class Prefetch:
    """Follows how fast outcomes come, in recipients a second.

    A slow relay should not make one worker hoard what others could send, nor put mail out of
    reach of ``cancel``.
    """

    def __init__(self, *, most: int, now: float) -> None:
        self._most = most
        self._rate = 0.0
        self._seen_at = now

    def record(self, count: int, now: float) -> None:
        """Take note of ``count`` outcomes."""
        elapsed_s = max(now - self._seen_at, 1e-6)
        fade = math.exp(-elapsed_s / _MEMORY_S)
        self._rate = self._rate * fade + (1 - fade) * count / elapsed_s
        self._seen_at = now

    @property
    def limit(self) -> int:
        """Return how many recipients of one lane may be held."""
        return min(max(_LEAST, int(self._rate)), self._most)

    def available(self, held: int) -> int:
        """Return how many to claim where ``held`` are held; 0 until a quarter has gone out."""
        room = self.limit - held
        return room if room >= self.limit / 4 else 0


class ClaimBatch:
    """The claims under one lease token that this worker still holds.

    Owned by the coordinator; senders only read. Reads need no lock: a key in a dict and a float are
    each replaced in one step.
    """

    __slots__ = ("_claims", "_lease_s", "_until", "lease_token", "send_deadline")

    def __init__(
        self, claims: Iterable[Claim], *, lease_token: int, lease_s: float, claimed_at: float
    ) -> None:
        self.lease_token = lease_token
        self._lease_s = lease_s
        self.extended(claimed_at)
        self._claims = {claim.recipient_id: claim for claim in claims}

    @property
    def claims(self) -> list[Claim]:
        """Return what is still held."""
        return list(self._claims.values())

    @property
    def renew_at(self) -> float:
        """Return when (local clock) the lease should be renewed: after a third of it."""
        return self._until - self._lease_s * 2 / 3

    def holds(self, claims: Sequence[Claim], now: float) -> bool:
        """Return whether ``claims`` are all held, and for long enough."""
        if now >= self.send_deadline:
            return False
        # Twice as fast as all(…) for the one claim that there mostly is, several times a mail.
        for claim in claims:  # noqa: SIM110
            if claim.recipient_id not in self._claims:
                return False
        return True

    def extended(self, renewed_at: float) -> None:
        """Take note that the lease runs from ``renewed_at`` again."""
        self._until = renewed_at + self._lease_s
        #: Until when (local clock) a final dot may be written: half the lease is left.
        self.send_deadline = renewed_at + self._lease_s / 2

    def remove(self, claim: Claim) -> bool:
        """Let go of one claim; return whether it was held."""
        return self._claims.pop(claim.recipient_id, None) is not None

    @property
    def is_empty(self) -> bool:
        """Return whether nothing is held any more."""
        return not self._claims


class ClaimTracker:
    """All claims that this worker holds. Belongs to the coordinator."""

    def __init__(self) -> None:
        self._batches: dict[int, ClaimBatch] = {}
        self._by_lane: Counter[int] = Counter()

    def __len__(self) -> int:
        """Return how many recipients are held."""
        return self._by_lane.total()

    def count(self, lane: int) -> int:
        """Return how many recipients of one lane are held."""
        return self._by_lane[lane]

    def add(self, batch: ClaimBatch) -> None:
        """Take in what was just claimed."""
        claims = batch.claims
        if claims:
            self._batches[batch.lease_token] = batch
            self._by_lane.update(claim.lane for claim in claims)

    def remove(self, claims: Iterable[Claim]) -> None:
        """Let go of claims; of those that are gone already nothing happens."""
        for claim in claims:
            batch = self._batches.get(claim.lease_token)
            if batch is not None and batch.remove(claim):
                self._by_lane[claim.lane] -= 1
                if batch.is_empty:
                    del self._batches[claim.lease_token]

    def due_for_renewal(self, now: float) -> list[ClaimBatch]:
        """Return the batches whose lease should be extended by now."""
        return [batch for batch in self._batches.values() if batch.renew_at <= now]

    def extended(self, batch: ClaimBatch, held: set[int], renewed_at: float) -> None:
        """Take note that ``held`` of a batch's recipients have been extended, and no others."""
        self.remove(claim for claim in batch.claims if claim.recipient_id not in held)
        batch.extended(renewed_at)
