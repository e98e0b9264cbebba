"""All that senders and the coordinator share: outcomes, requests, and the gate before the dot."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from postroom.delivery.claims import ClaimBatch
from postroom.delivery.scheduler import TaskCondition
from postroom.delivery.unit_of_work import IntentRequest, UnitOfWork
from postroom.errors import LeaseLost
from postroom.storage.queue.records import Claim, OutcomeRecord

T = TypeVar("T")


class CommitGate:
    """Counts recipients between the final dot and the commit of their outcome.

    Args:
        max_uncommitted: How many there may be; a transaction with more may pass alone.
        clock: Monotonic, in seconds.
    """

    def __init__(self, *, max_uncommitted: int, clock: Callable[[], float]) -> None:
        self._max_uncommitted = max_uncommitted
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = TaskCondition(self._lock)
        self._uncommitted = 0
        self._is_open = True

    def acquire(self, batch: ClaimBatch, claims: tuple[Claim, ...]) -> None:
        """Wait until the outcomes of ``claims`` could be recorded, then count them in.

        Args:
            batch: What holds the claims.
            claims: Whose final dot is to be written.

        Raises:
            LeaseLost: the claims no longer hold, or would not for long enough.
        """
        count = len(claims)
        with self._lock:
            while True:
                now = self._clock()
                if not batch.holds(claims, now):
                    raise LeaseLost("the lease of a claim ran out before the final dot")
                if self._has_room(count):
                    break
                self._changed.wait(batch.send_deadline - now)
            self._uncommitted += count

    def release(self, count: int) -> None:
        """Count out recipients whose outcomes are committed, and open the gate.

        Args:
            count: How many.
        """
        with self._lock:
            self._uncommitted -= count
            self._is_open = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody through until a commit has succeeded again."""
        with self._lock:
            self._is_open = False

    def _has_room(self, count: int) -> bool:
        fits = self._uncommitted + count <= self._max_uncommitted or self._uncommitted == 0
        return self._is_open and fits


class OutcomeBuffer:
    """Where senders leave what the coordinator is to write. Thread-safe; never blocks a sender."""

    def __init__(self) -> None:
        self._outcomes: deque[OutcomeRecord] = deque()
        self._admitted: deque[int] = deque()
        self._intents: deque[IntentRequest] = deque()
        self._released: deque[Claim] = deque()
        self._abandoned: deque[Claim] = deque()
        self._wakeup = threading.Event()

    def add(self, outcomes: Sequence[OutcomeRecord], admitted: int = 0) -> None:
        """Leave outcomes to be recorded.

        Args:
            outcomes: Of one transaction.
            admitted: How many of its recipients the gate has let through.
        """
        # In this order, and `drain` in the other: the gate never counts out what is not written.
        self._outcomes.extend(outcomes)
        if admitted:
            self._admitted.append(admitted)
        self.wake()

    def request_intent(self, claims: Sequence[Claim]) -> IntentRequest:
        """Ask for the intent to write a final dot to be committed; wait on ``answered``.

        Args:
            claims: Whose dot it is.
        """
        intent = IntentRequest(claims)
        self._intents.append(intent)
        self.wake()
        return intent

    def release(self, claims: Iterable[Claim]) -> None:
        """Give back claims that were not tried: they are due again at once."""
        self._released.extend(claims)
        self.wake()

    def abandon(self, claims: Iterable[Claim]) -> None:
        """Let leases run out: what happened is not understood, and should not repeat at once."""
        self._abandoned.extend(claims)
        self.wake()

    def wake(self) -> None:
        """Wake the coordinator."""
        if not self._wakeup.is_set():
            self._wakeup.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until `wake` is called, ``timeout_s`` at the most; return whether it was."""
        was_woken = self._wakeup.wait(timeout_s)
        self._wakeup.clear()
        return was_woken

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to write."""
        return not (self._outcomes or self._intents or self._released or self._abandoned)

    def drain(self) -> UnitOfWork:
        """Take all that there is."""
        admitted = sum(_emptied(self._admitted))
        return UnitOfWork(
            outcomes=_emptied(self._outcomes),
            admitted=admitted,
            intents=_emptied(self._intents),
            released=_emptied(self._released),
            abandoned=_emptied(self._abandoned),
        )


def _emptied(added: deque[T]) -> list[T]:
    # Senders may add meanwhile: what comes later is for the next look.
    return [added.popleft() for _ in range(len(added))]
