"""How fast mail arrives, second by second, so that a test can tell when it is as fast as before."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.services.waiting import wait_for

#: A worker's rate limit lets mail out in bursts of a second.
_WINDOW_S = 2.0
_EVERY_S = 0.05
#: This share of the usual throughput counts as all of it.
_RECOVERED = 0.95


class Pace:
    """Watches a growing count; ``usual`` is its growth a second before anything was broken."""

    def __init__(self, count: Callable[[], int], *, over_s: float) -> None:
        self._count = count
        self._seen: list[tuple[float, int]] = [(time.monotonic(), count())]
        until = time.monotonic() + over_s
        wait_for(lambda: self._look() > until, "a usual pace", over_s + 10)
        self.usual = self._rate(over_s)

    def recovery_s(self, within_s: float) -> float:
        """Wait until mail arrives as usual again; return how many seconds that took.

        The time ends where the window in which it did begins.
        """
        began = self._look()
        wait_for(
            lambda: (
                self._look() - began > _WINDOW_S
                and self._rate(_WINDOW_S) >= _RECOVERED * self.usual
            ),
            f"{_RECOVERED:.0%} of {self.usual:.0f} mails/s",
            within_s + _WINDOW_S,
        )
        return self._seen[-1][0] - began - _WINDOW_S

    def _look(self) -> float:
        time.sleep(_EVERY_S)
        self._seen.append((time.monotonic(), self._count()))
        return self._seen[-1][0]

    def _rate(self, window_s: float) -> float:
        """Return the growth a second over the last ``window_s``, or hardly more."""
        now, count = self._seen[-1]
        begin = now - window_s
        at, before = next(seen for seen in reversed(self._seen) if seen[0] <= begin)
        return (count - before) / (now - at)
