"""How long to wait after a failure: longer after each further one, up to a limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: Enough to reach any limit; a float cannot hold 2 to the power of a few thousand failures.
_MOST_STEPS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Exponential backoff without randomness.

    Args:
        first_s: The pause after the first failure, in seconds.
        longest_s: No pause is longer, in seconds.
        factor: How many times as long each further pause is.
    """

    first_s: float
    longest_s: float
    factor: float = 2.0

    def pause_s(self, failures: int) -> float:
        """Return the pause in seconds after ``failures`` failures in a row; 0 after none."""
        if failures < 1:
            return 0.0
        steps = min(failures - 1, _MOST_STEPS)
        return min(self.first_s * self.factor**steps, self.longest_s)


class SharedBackoff:
    """One pause for many tasks that fail for one reason: failures during it count once.

    Args:
        backoff: How long the pauses are.
        clock: Monotonic, in seconds.
    """

    def __init__(self, backoff: Backoff, *, clock: Callable[[], float]) -> None:
        self._backoff = backoff
        self._clock = clock
        self._failures = 0
        self._until = 0.0

    def failed(self) -> float:
        """Count a failure; return the pause in seconds, longer only if the last one is over."""
        now = self._clock()
        if now >= self._until:
            self._failures += 1
            self._until = now + self._backoff.pause_s(self._failures)
        return self._backoff.pause_s(self._failures)

    def succeeded(self) -> None:
        """Begin with the first pause again."""
        self._failures, self._until = 0, 0.0
