"""The gate before the final dot: nothing passes that could not be recorded.

Once the dot is written a mail may be out. So before it: the last commit succeeded, few outcomes
wait for the next one, and more than half of the lease is left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from postroom.delivery.batch import Batch
from postroom.delivery.scheduler import TaskCondition
from postroom.storage.ledger import Claim
from postroom.values.errors import LeaseLost


class Gate:
    """Counts recipients between the final dot and the commit of their outcome."""

    def __init__(self, *, max_unrecorded: int, clock: Callable[[], float]) -> None:
        self._max_unrecorded = max_unrecorded
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = TaskCondition(self._lock)
        self._unrecorded = 0
        self._is_open = True

    def enter(self, batch: Batch, claims: tuple[Claim, ...]) -> None:
        """Wait until the outcomes of ``claims`` could be recorded, then count them in.

        Raises:
            LeaseLost: the claims no longer hold, or would not for long enough.
        """
        count = len(claims)
        with self._lock:
            while True:
                now = self._clock()
                if not batch.is_safe(claims, now):
                    raise LeaseLost("expected the claim to hold until the dot, got: too late")
                if self._has_room(count):
                    break
                self._changed.wait(batch.safe_until - now)
            self._unrecorded += count

    def leave(self, count: int) -> None:
        """Count out ``count`` recipients whose outcomes are committed; open the gate."""
        with self._lock:
            self._unrecorded -= count
            self._is_open = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody through until a commit has succeeded again."""
        with self._lock:
            self._is_open = False

    def _has_room(self, count: int) -> bool:
        # A mail with more recipients than the bound may pass alone.
        fits = self._unrecorded + count <= self._max_unrecorded or self._unrecorded == 0
        return self._is_open and fits
