"""A thread that carries hints to the broker, so that no commit ever waits for it."""

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

#: Commits that come so soon after another share one message.
REST_S = 0.1
_BACKOFF = Backoff(first_s=1.0, longest_s=30.0)
#: How long a process that ends waits for its last hint.
_FAREWELL_S = 1.0


class BackgroundNotifier:
    """Sends soon after each `hint`, once for several; safe to use after a fork.

    ``opened`` returns what sends; it is called once in each process, and the sending is done in
    one thread of that.
    """

    def __init__(self, opened: Callable[[], Callable[[], None]], *, rest_s: float = REST_S) -> None:
        self._opened = opened
        self._rest_s = rest_s
        self._route: _NotifierThread | None = None

    def notify(self) -> None:
        """Send soon. Never blocks and never raises."""
        route = self._route
        if route is None or route.pid != os.getpid():
            # Through a fork comes no thread, and a socket that is the parent's.
            route = self._route = _NotifierThread(self._opened(), self._rest_s)
            route.start()
        route.hint()


class _NotifierThread(threading.Thread):
    """The thread of one process. Two are harmless: some hint is then sent twice."""

    def __init__(self, send: Callable[[], None], rest_s: float) -> None:
        super().__init__(name="postroom-courier", daemon=True)
        self.pid = os.getpid()
        self._send = send
        self._rest_s = rest_s
        self._wanted: Queue[None] = Queue(maxsize=1)
        self._failures = 0
        self._clock = threading.Event()
        atexit.register(self._flush)

    def hint(self) -> None:
        with suppress(Full):  # one is waiting already, and says the same
            self._wanted.put_nowait(None)

    def run(self) -> None:
        """Send, rest, and send again if there was another hint meanwhile."""
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
        return _BACKOFF.pause_s(self._failures) or self._rest_s

    def _failed(self, error: Exception) -> None:
        if not self._failures:
            log.warning(
                "the broker takes no hints, mail goes out with the next sweep: %s",
                str(error).partition("\n")[0] or type(error).__name__,
            )
        self._failures += 1
        self.hint()

    def _arrived(self) -> None:
        if self._failures:
            log.info("the broker takes hints again")
        self._failures = 0

    def _flush(self) -> None:
        """Let a script that enqueues and ends leave its hint behind; but never wait for long."""
        if self.pid == os.getpid() and not self._failures:
            with self._wanted.all_tasks_done:
                self._wanted.all_tasks_done.wait_for(
                    lambda: not self._wanted.unfinished_tasks, _FAREWELL_S
                )
