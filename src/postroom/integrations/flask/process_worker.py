"""The worker in each process that serves an application: started by the first request.

It is not started where no request is served: in the parent of a reloader or of forked workers, in a
shell, in a command. Nothing is shared through a fork.
"""

from __future__ import annotations

import atexit
import os
import threading

from postroom.backoff import Backoff
from postroom.delivery.scheduler import register_exit_hook
from postroom.log import Log
from postroom.outbox import Outbox

log = Log("postroom.worker")

_RETRY = Backoff(first_s=1.0, longest_s=30.0)


class ProcessWorker:
    """Keeps one worker in each process that calls `start`.

    Args:
        outbox: The outbox to deliver from.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._lock = threading.Lock()
        self._starter: _StartThread | None = None

    def start(self) -> None:
        """Deliver from this process from now on; returns at once if it does already."""
        starter = self._starter
        if starter is not None and starter.pid == os.getpid():
            return
        with self._lock:
            if self._starter is None or self._starter.pid != os.getpid():
                self._starter = _start_thread(self._outbox)

    def stop(self) -> None:
        """Finish the mail that is being sent, and deliver no more from this process."""
        starter, self._starter = self._starter, None
        if starter is not None and starter.pid == os.getpid():
            starter.end()


def _start_thread(outbox: Outbox) -> _StartThread | None:
    """Start a thread; if that is impossible now, the next request tries again."""
    starter = _StartThread(outbox)
    try:
        starter.start()
    except RuntimeError as error:
        atexit.unregister(starter.end)
        log.warning("no mail is delivered from this process yet: %s", error)
        return None
    return starter


class _StartThread(threading.Thread):
    """Starts the worker as soon as the database is usable; no request waits for that."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__(name="postroom-starter", daemon=True)
        self.pid = os.getpid()
        self._outbox = outbox
        self._ended = threading.Event()
        register_exit_hook()
        atexit.register(self.end)

    def run(self) -> None:
        """Try until it works; log each reason once."""
        reported, failures = "", 0
        while not self._ended.is_set():
            try:
                self._outbox.start()
            except Exception as error:
                # Whatever it is, requests are served and mail waits.
                if str(error) != reported:
                    reported = str(error)
                    log.warning("no mail is delivered from this process: %s", reported)
            else:
                return
            failures += 1
            self._ended.wait(_RETRY.pause_s(failures))

    def end(self) -> None:
        """Stop the worker; does nothing in a forked child."""
        atexit.unregister(self.end)
        if self.pid == os.getpid():
            self._ended.set()
            self.join()
            self._outbox.stop()
