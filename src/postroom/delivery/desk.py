"""The desk between senders and the ledger thread: results in, intents answered."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from postroom.delivery.scheduler import Event, new_event
from postroom.storage.ledger import Claim, Result

T = TypeVar("T")


# Not frozen, though nothing changes it: one is made for every mail.
@dataclass(slots=True)
class Report:
    """Results of one transaction; ``passed`` recipients of it went through the gate."""

    results: Sequence[Result]
    passed: int


@dataclass(slots=True)
class Intent:
    """A request to commit that the final dot is about to be written, and its answer."""

    claims: Sequence[Claim]
    held: set[int] = field(default_factory=set)
    answered: Event = field(default_factory=new_event)

    def answer(self, held: set[int]) -> None:
        """Let the sender go on with what is still held."""
        self.held = held
        self.answered.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """All that lay on the desk when the ledger thread looked."""

    results: tuple[Result, ...] = ()
    passed: int = 0
    intents: tuple[Intent, ...] = ()
    released: tuple[Claim, ...] = ()
    abandoned: tuple[Claim, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Return whether there is nothing to write."""
        return not (self.results or self.intents or self.released)

    def joined(self, later: Papers) -> Papers:
        """Return these papers with those that came later."""
        return Papers(
            results=self.results + later.results,
            passed=self.passed + later.passed,
            intents=self.intents + later.intents,
            released=self.released + later.released,
            abandoned=later.abandoned,
        )


class Desk:
    """Where senders lay down what they have. Safe from any thread; never blocks a sender."""

    def __init__(self) -> None:
        self._reports: deque[Report] = deque()
        self._intents: deque[Intent] = deque()
        self._released: deque[Claim] = deque()
        self._abandoned: deque[Claim] = deque()
        self._bell = threading.Event()

    def report(self, results: Sequence[Result], passed: int = 0) -> None:
        """Hand in what is to be recorded."""
        self._reports.append(Report(results, passed))
        self.ring()

    def intend(self, claims: Sequence[Claim]) -> Intent:
        """Ask for an intent to be committed; wait on the answer's event."""
        intent = Intent(claims)
        self._intents.append(intent)
        self.ring()
        return intent

    def release(self, claims: Iterable[Claim]) -> None:
        """Hand back what was not tried: it is due again at once."""
        self._released.extend(claims)
        self.ring()

    def abandon(self, claims: Iterable[Claim]) -> None:
        """Let leases run out: what happened is not understood, and should not repeat at once."""
        self._abandoned.extend(claims)
        self.ring()

    def ring(self) -> None:
        """Wake the ledger thread."""
        if not self._bell.is_set():
            self._bell.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait until somebody rings, ``timeout_s`` at the most; return whether somebody did."""
        rang = self._bell.wait(timeout_s)
        self._bell.clear()
        return rang

    @property
    def is_clear(self) -> bool:
        """Return whether nothing lies here."""
        return not (self._reports or self._intents or self._released or self._abandoned)

    def take(self) -> Papers:
        """Return all that lies here, and clear the desk."""
        reports = _emptied(self._reports)
        return Papers(
            results=tuple(result for report in reports for result in report.results),
            passed=sum(report.passed for report in reports),
            intents=tuple(_emptied(self._intents)),
            released=tuple(_emptied(self._released)),
            abandoned=tuple(_emptied(self._abandoned)),
        )


def _emptied(papers: deque[T]) -> list[T]:
    # Senders may add meanwhile: what comes later is for the next look.
    return [papers.popleft() for _ in range(len(papers))]
