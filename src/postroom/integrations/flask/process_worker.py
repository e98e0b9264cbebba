"""The worker in each process that serves an application: begun by its first request.

Nothing is begun where no request is served: in the parent of a reloader or of forked workers, in
a shell, in a command. Nothing is shared through a fork.
"""

from __future__ import annotations

import atexit
import os
import threading

from postroom.backoff import Backoff
from postroom.log import Log
from postroom.outbox import Outbox

log = Log("postroom.worker")

_BACKOFF = Backoff(first_s=1.0, longest_s=30.0)


class ProcessWorker:
    """Keeps one worker for ``outbox`` in each process that calls `begin`."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._lock = threading.Lock()
        self._starter: _StartThread | None = None

    def start(self) -> None:
        """Deliver from this process from now on; at once where it does already."""
        starter = self._starter
        if starter is not None and starter.pid == os.getpid():
            return
        with self._lock:
            if self._starter is None or self._starter.pid != os.getpid():
                self._starter = _started(self._outbox)

    def stop(self) -> None:
        """Finish what is on the wire, and deliver no more from this process."""
        starter, self._starter = self._starter, None
        if starter is not None and starter.pid == os.getpid():
            starter.end()


def _started(outbox: Outbox) -> _StartThread | None:
    """Start a thread; where there can be none now, the request goes on, and the next one tries."""
    starter = _StartThread(outbox)
    try:
        starter.start()
    except RuntimeError as error:
        atexit.unregister(starter.end)
        log.warning("no mail is delivered from this process yet: %s", error)
        return None
    return starter


class _StartThread(threading.Thread):
    """Starts the worker, as soon as the database lets it; no request waits for that."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__(name="postroom-starter", daemon=True)
        self.pid = os.getpid()
        self._outbox = outbox
        self._ended = threading.Event()
        atexit.register(self.end)

    def run(self) -> None:
        """Try until it works; say once why it does not."""
        said, failures = "", 0
        while not self._ended.is_set():
            try:
                self._outbox.start()
            except Exception as error:
                # Whatever it is, requests go on, and mail waits.
                if str(error) != said:
                    said = str(error)
                    log.warning("no mail is delivered from this process: %s", said)
            else:
                return
            failures += 1
            self._ended.wait(_BACKOFF.pause_s(failures))

    def end(self) -> None:
        """Stop the worker; does nothing in a child."""
        atexit.unregister(self.end)
        if self.pid == os.getpid():
            self._ended.set()
            self.join()
            self._outbox.stop()
