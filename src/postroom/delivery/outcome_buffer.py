"""The desk between senders and the ledger thread: results in, intents answered."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from postroom.delivery.claims import ClaimBatch
from postroom.delivery.scheduler import Event, TaskCondition, new_event
from postroom.errors import LeaseLost
from postroom.storage.queue.records import Claim, OutcomeRecord


class CommitGate:
    """Counts recipients between the final dot and the commit of their outcome."""

    def __init__(self, *, max_uncommitted: int, clock: Callable[[], float]) -> None:
        self._max_unrecorded = max_uncommitted
        self._clock = clock
        self._lock = threading.Lock()
        self._changed = TaskCondition(self._lock)
        self._unrecorded = 0
        self._is_open = True

    def acquire(self, batch: ClaimBatch, claims: tuple[Claim, ...]) -> None:
        """Wait until the outcomes of ``claims`` could be recorded, then count them in.

        Raises:
            LeaseLost: the claims no longer hold, or would not for long enough.
        """
        count = len(claims)
        with self._lock:
            while True:
                now = self._clock()
                if not batch.holds(claims, now):
                    raise LeaseLost("expected the claim to hold until the dot, got: too late")
                if self._has_room(count):
                    break
                self._changed.wait(batch.send_deadline - now)
            self._unrecorded += count

    def release(self, count: int) -> None:
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


T = TypeVar("T")


# Not frozen, though nothing changes it: one is made for every mail.
@dataclass(slots=True)
class OutcomeBatch:
    """Results of one transaction; ``passed`` recipients of it went through the gate."""

    outcomes: Sequence[OutcomeRecord]
    admitted: int


@dataclass(slots=True)
class IntentRequest:
    """A request to commit that the final dot is about to be written, and its answer."""

    claims: Sequence[Claim]
    held: set[int] = field(default_factory=set)
    answered: Event = field(default_factory=new_event)

    def complete(self, held: set[int]) -> None:
        """Let the sender go on with what is still held."""
        self.held = held
        self.answered.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingWrites:
    """All that lay on the desk when the ledger thread looked."""

    outcomes: tuple[OutcomeRecord, ...] = ()
    admitted: int = 0
    intents: tuple[IntentRequest, ...] = ()
    released: tuple[Claim, ...] = ()
    abandoned: tuple[Claim, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to write."""
        return not (self.outcomes or self.intents or self.released)

    def merged(self, later: PendingWrites) -> PendingWrites:
        """Return these papers with those that came later."""
        return PendingWrites(
            outcomes=self.outcomes + later.outcomes,
            admitted=self.admitted + later.admitted,
            intents=self.intents + later.intents,
            released=self.released + later.released,
            abandoned=later.abandoned,
        )


class OutcomeBuffer:
    """Where senders lay down what they have. Safe from any thread; never blocks a sender."""

    def __init__(self) -> None:
        self._reports: deque[OutcomeBatch] = deque()
        self._intents: deque[IntentRequest] = deque()
        self._released: deque[Claim] = deque()
        self._abandoned: deque[Claim] = deque()
        self._wakeup = threading.Event()

    def add(self, results: Sequence[OutcomeRecord], passed: int = 0) -> None:
        """Hand in what is to be recorded."""
        self._reports.append(OutcomeBatch(results, passed))
        self.wake()

    def request_intent(self, claims: Sequence[Claim]) -> IntentRequest:
        """Ask for an intent to be committed; wait on the answer's event."""
        intent = IntentRequest(claims)
        self._intents.append(intent)
        self.wake()
        return intent

    def release(self, claims: Iterable[Claim]) -> None:
        """Hand back what was not tried: it is due again at once."""
        self._released.extend(claims)
        self.wake()

    def abandon(self, claims: Iterable[Claim]) -> None:
        """Let leases run out: what happened is not understood, and should not repeat at once."""
        self._abandoned.extend(claims)
        self.wake()

    def wake(self) -> None:
        """Wake the ledger thread."""
        if not self._wakeup.is_set():
            self._wakeup.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until somebody rings, ``timeout_s`` at the most; return whether somebody did."""
        rang = self._wakeup.wait(timeout_s)
        self._wakeup.clear()
        return rang

    @property
    def is_empty(self) -> bool:
        """Return whether nothing lies here."""
        return not (self._reports or self._intents or self._released or self._abandoned)

    def drain(self) -> PendingWrites:
        """Return all that lies here, and clear the desk."""
        reports = _emptied(self._reports)
        return PendingWrites(
            outcomes=tuple(result for report in reports for result in report.outcomes),
            admitted=sum(report.admitted for report in reports),
            intents=tuple(_emptied(self._intents)),
            released=tuple(_emptied(self._released)),
            abandoned=tuple(_emptied(self._abandoned)),
        )


def _emptied(papers: deque[T]) -> list[T]:
    # Senders may add meanwhile: what comes later is for the next look.
    return [papers.popleft() for _ in range(len(papers))]
