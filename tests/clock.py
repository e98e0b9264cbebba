"""A clock that stands until a test moves it."""

from __future__ import annotations


class Clock:
    """Called like `time.monotonic`; a test sets or adds to ``now``."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now
