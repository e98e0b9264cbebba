"""A thread that books what was uploaded, while requests go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from flask import Flask, current_app

from examples.shop.booking import book_waiting

log = logging.getLogger(__name__)

#: How often to look without having been called: for what a process that died has left.
LOOK_EVERY_S = 5.0

_HINT = "shop-hint"


def init_app(app: Flask) -> None:
    """Let a clerk of this process book the uploads of ``app``, from the first one on."""
    add_wakeup(app, Clerk(app).ring)


def add_wakeup(app: Flask, call: Callable[[], None]) -> None:
    """Let ``call`` carry the hints of ``app`` to whoever books its uploads."""
    app.extensions[_HINT] = call


def hint() -> None:
    """Say that an upload waits. A hint may be lost: it is found all the same, a little later."""
    current_app.extensions[_HINT]()


class Clerk:
    """Books waiting uploads in a thread, one after the other.

    The thread may die with its process: what it had in hand is then rolled back, and waits.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._bell = threading.Event()
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def ring(self) -> None:
        """Look now; the first call begins."""
        self._bell.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="shop-clerk", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Finish the upload in hand, and end."""
        self._is_closing = True
        self._bell.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while not self._is_closing:
            with self._app.app_context():
                self._look()
            self._bell.wait(LOOK_EVERY_S)
            self._bell.clear()

    def _look(self) -> None:
        try:
            book_waiting()
        except Exception:  # whatever it is: what was not booked waits, and the thread lives on
            log.exception("could not look for uploads; trying again in %g s", LOOK_EVERY_S)
