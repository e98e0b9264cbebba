"""A thread that sends wakeups to the broker, so that no commit ever waits for it."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Full, Queue

from postroom.backoff import Backoff
from postroom.log import Log

log = Log("postroom.celery")

#: Commits that follow each other so soon share one message.
INTERVAL_S = 0.1
_BACKOFF = Backoff(first_s=1.0, longest_s=30.0)
#: How long a process that ends waits for its last wakeup.
_FLUSH_TIMEOUT_S = 1.0


class BackgroundNotifier:
    """Sends a message soon after `notify` was called, one for several calls. Safe after a fork.

    Args:
        opened: Returns what sends; called once in each process. One thread does the sending.
        interval_s: The least time between two messages, in seconds.
    """

    def __init__(
        self, opened: Callable[[], Callable[[], None]], *, interval_s: float = INTERVAL_S
    ) -> None:
        self._opened = opened
        self._interval_s = interval_s
        self._thread: _NotifierThread | None = None

    def notify(self) -> None:
        """Send soon. Never blocks and never raises."""
        thread = self._thread
        if thread is None or thread.pid != os.getpid():
            # A fork brings no thread along, and a socket that is the parent's.
            thread = self._thread = _NotifierThread(self._opened(), self._interval_s)
            thread.start()
        thread.notify()


class _NotifierThread(threading.Thread):
    """The thread of one process. Two are harmless: a wakeup may then be sent twice."""

    def __init__(self, send: Callable[[], None], interval_s: float) -> None:
        super().__init__(name="postroom-notifier", daemon=True)
        self.pid = os.getpid()
        self._send = send
        self._interval_s = interval_s
        self._wanted: Queue[None] = Queue(maxsize=1)
        self._failures = 0
        self._clock = threading.Event()
        atexit.register(self._flush)

    def notify(self) -> None:
        with suppress(Full):  # one is waiting already, and says the same
            self._wanted.put_nowait(None)

    def run(self) -> None:
        """Send, pause, and send again if there was another call meanwhile."""
        while True:
            self._wanted.get()
            try:
                self._send()
            except Exception as error:
                self._failed(error)
            else:
                self._arrived()
            finally:
                self._wanted.task_done()
            self._clock.wait(self._pause_s())

    def _pause_s(self) -> float:
        return _BACKOFF.pause_s(self._failures) or self._interval_s

    def _failed(self, error: Exception) -> None:
        if not self._failures:
            log.warning(
                "the broker takes no wakeups, mail goes out with the next sweep: %s",
                str(error).partition("\n")[0] or type(error).__name__,
            )
        self._failures += 1
        self.notify()

    def _arrived(self) -> None:
        if self._failures:
            log.info("the broker takes wakeups again")
        self._failures = 0

    def _flush(self) -> None:
        """Let a script that enqueues and ends send its wakeup; but never wait for long."""
        if self.pid == os.getpid() and not self._failures:
            with self._wanted.all_tasks_done:
                self._wanted.all_tasks_done.wait_for(
                    lambda: not self._wanted.unfinished_tasks, _FLUSH_TIMEOUT_S
                )
