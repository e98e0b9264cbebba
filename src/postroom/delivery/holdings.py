"""What this worker holds: batches of claims, how many of each lane, and which to renew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from postroom.delivery.batch import Batch
from postroom.storage.ledger import Claim


class Holdings:
    """All claims in this worker's hands. Belongs to the ledger thread."""

    def __init__(self) -> None:
        self._batches: dict[int, Batch] = {}
        self._by_lane: Counter[int] = Counter()

    def __len__(self) -> int:
        """Return how many recipients are held."""
        return self._by_lane.total()

    def in_lane(self, lane: int) -> int:
        """Return how many recipients of one lane are held."""
        return self._by_lane[lane]

    def add(self, batch: Batch) -> None:
        """Take in what was just claimed."""
        claims = batch.claims
        if claims:
            self._batches[batch.token] = batch
            self._by_lane.update(claim.lane for claim in claims)

    def drop(self, claims: Iterable[Claim]) -> None:
        """Let go of claims; of those that are gone already nothing happens."""
        for claim in claims:
            batch = self._batches.get(claim.token)
            if batch is not None and batch.drop(claim):
                self._by_lane[claim.lane] -= 1
                if batch.is_empty:
                    del self._batches[claim.token]

    def to_renew(self, now: float) -> list[Batch]:
        """Return the batches whose lease should be extended by now."""
        return [batch for batch in self._batches.values() if batch.renew_at <= now]

    def renewed(self, batch: Batch, held: set[int], renewed_at: float) -> None:
        """Take note that ``held`` of a batch's recipients have been extended, and no others."""
        self.drop(claim for claim in batch.claims if claim.recipient_id not in held)
        batch.renewed(renewed_at)
