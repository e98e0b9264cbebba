"""A rate that all workers on one Redis keep together."""

from __future__ import annotations

from collections.abc import Callable

from postroom.smtp.blackboard import Blackboard
from postroom.smtp.limiter import RateLimiter
from postroom.values.rate import Rate


class SharedLimiter:
    """Counts on the ``board`` under ``name`` what is sent in a sliding window, and here as well.

    Here, so that the rate holds for this process alone where Redis is away, what it sent just
    before included.
    """

    def __init__(
        self, rate: Rate, name: str, board: Blackboard, *, clock: Callable[[], float]
    ) -> None:
        self._rate = rate
        self._name = name
        self._board = board
        self._clock = clock
        self._here = RateLimiter(rate, clock=clock)
        #: Nothing is allowed before, the board has said.
        self._until = 0.0

    def take(self) -> bool:
        """Count one more mail where the rate allows it now; return whether it does."""
        if self.pause_s() > 0:
            return False
        pause_s = self._board.count(self._rate, self._name)
        if pause_s > 0:
            self._until = self._clock() + pause_s
            return False
        return self._here.take()

    def pause_s(self) -> float:
        """Return how long until one more may be allowed; asks nobody."""
        return max(self._here.pause_s(), self._until - self._clock())
