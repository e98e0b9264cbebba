"""A thread that turns the database's notifications into hints."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

from sqlalchemy import Engine

from postroom.log import Log
from postroom.storage.notifications import listen

log = Log("postroom.worker")

_LOOK_UP_S = 0.25
_RECONNECT_S = 1.0


class Listener(threading.Thread):
    """Calls ``hint`` for each notification, over a connection of its own, until it is stopped.

    While it cannot listen nothing is lost: the worker polls in any case.
    """

    def __init__(self, engine: Engine, hint: Callable[[], None]) -> None:
        super().__init__(name="postroom-listener", daemon=True)
        self._engine = engine
        self._hint = hint
        self._stopped = threading.Event()

    def run(self) -> None:
        """Listen, and begin again after each lost connection."""
        while not self._stopped.is_set():
            try:
                self._listen()
            except Exception:
                log.exception("cannot listen for notifications; mail is found by polling")
            self._stopped.wait(_RECONNECT_S)

    def stop(self) -> None:
        """End soon."""
        self._stopped.set()

    def _listen(self) -> None:
        with closing(listen(self._engine, _LOOK_UP_S)) as arrivals:
            for has_arrived in arrivals:
                if self._stopped.is_set():
                    return
                if has_arrived:
                    self._hint()
