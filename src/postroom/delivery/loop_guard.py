"""Names whatever holds the senders' loop up: while it runs, no conversation goes on.

For development. gevent's own monitor is one for all loops of a process, and prints to standard
error at every turn; this one is for our thread, and says each place once.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from time import perf_counter
from types import FrameType
from typing import Any

from gevent.hub import Hub
from greenlet import settrace

from postroom.log import Log

log = Log("postroom.delivery")

#: Longer than this no task should run without waiting for something.
_LONGEST_RUN_S = 0.05
_LOOK_S = 0.01


def guarded(run: Callable[[], None]) -> Callable[[], None]:
    """Return ``run``, the thread of a loop, with a second thread that watches it."""

    def guarded_run() -> None:
        guard = _LoopGuard(threading.get_ident())
        settrace(guard.switched)
        threading.Thread(target=guard.watch, name="postroom-loop-guard", daemon=True).start()
        try:
            run()
        finally:
            settrace(None)
            guard.end()

    return guarded_run


class _LoopGuard:
    """Watches the thread ``ident``; what it has said is not said again."""

    def __init__(self, ident: int) -> None:
        self._ident = ident
        self._ended = threading.Event()
        #: Since when the task at work has been running; None while the loop waits.
        self._running_since: float | None = None
        self._said: set[tuple[str, int]] = set()

    def switched(self, _event: str, switch: Any) -> None:
        """Take note that the loop, or a task, goes on (``greenlet.settrace``)."""
        _origin, target = switch
        is_task = not isinstance(target, Hub) and target.parent is not None
        self._running_since = perf_counter() if is_task else None

    def watch(self) -> None:
        """Look until the loop ends."""
        while not self._ended.wait(_LOOK_S):
            since = self._running_since
            if since is not None and (taken_s := perf_counter() - since) > _LONGEST_RUN_S:
                frame = sys._current_frames().get(self._ident)
                if frame is not None and self._running_since == since:
                    self._say(frame, taken_s)

    def end(self) -> None:
        """Watch no longer."""
        self._ended.set()

    def _say(self, frame: FrameType, taken_s: float) -> None:
        place = (frame.f_code.co_filename, frame.f_lineno)
        if place not in self._said:
            self._said.add(place)
            log.warning(
                "the senders' loop is held up for %.0f ms so far, at %s:%d; no mail goes on "
                "meanwhile:\n%s",
                taken_s * 1000,
                *place,
                "".join(traceback.format_stack(frame)),
            )
