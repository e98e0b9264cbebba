"""Exponential backoff: after each further failure the pause doubles, up to a limit.

The only place that computes such pauses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: Enough to reach any limit. 2.0**1024 is an OverflowError.
_MAX_DOUBLINGS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff without randomness.

    Attributes:
        first_s: The pause after the first failure, in seconds.
        longest_s: The longest pause, in seconds.
    """

    first_s: float
    longest_s: float

    def pause_s(self, failures: int) -> float:
        """Return the pause in seconds; 0 after no failure.

        Args:
            failures: How many failures there were in a row.
        """
        if failures < 1:
            return 0.0
        return min(self.first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), self.longest_s)


class SharedBackoff:
    """A backoff that many tasks share: failures during one pause count as one.

    Args:
        backoff: How long the pauses are.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, backoff: Backoff, *, clock: Callable[[], float]) -> None:
        self._backoff = backoff
        self._clock = clock
        self._failures = 0
        self._until = 0.0

    def failed(self) -> float:
        """Count a failure; return the pause in seconds, which grows only when the last is over."""
        now = self._clock()
        if now >= self._until:
            self._failures += 1
            self._until = now + self._backoff.pause_s(self._failures)
        return self._backoff.pause_s(self._failures)

    def succeeded(self) -> None:
        """Start with the first pause again."""
        self._failures, self._until = 0, 0.0
