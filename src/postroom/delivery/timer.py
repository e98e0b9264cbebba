"""Something that is due every so often."""

from __future__ import annotations


class Timer:
    """Due at once, and again ``every_s`` after each time it was found due."""

    __slots__ = ("_due_at", "_every_s")

    def __init__(self, every_s: float, *, now: float) -> None:
        self._every_s = every_s
        self._due_at = now

    def is_due(self, now: float) -> bool:
        """Return whether the time has come; if so, it starts anew."""
        if now < self._due_at:
            return False
        self._due_at = now + self._every_s
        return True
