"""How much to claim ahead: about a second's work, so that little waits in memory."""

from __future__ import annotations

import math

_LEAST = 16
#: Rates are averaged over about this long.
_MEMORY_S = 1.0


class Appetite:
    """Follows how fast outcomes come, in recipients a second.

    A slow relay should not make one worker hoard what others could send, nor put mail out of
    reach of ``cancel``.
    """

    def __init__(self, *, most: int, now: float) -> None:
        self._most = most
        self._rate = 0.0
        self._seen_at = now

    def done(self, count: int, now: float) -> None:
        """Take note of ``count`` outcomes."""
        elapsed_s = max(now - self._seen_at, 1e-6)
        fade = math.exp(-elapsed_s / _MEMORY_S)
        self._rate = self._rate * fade + (1 - fade) * count / elapsed_s
        self._seen_at = now

    @property
    def capacity(self) -> int:
        """Return how many recipients of one lane may be held."""
        return min(max(_LEAST, int(self._rate)), self._most)

    def room(self, held: int) -> int:
        """Return how many to claim where ``held`` are held; 0 until a quarter has gone out."""
        room = self.capacity - held
        return room if room >= self.capacity / 4 else 0
