"""Free ports, and waiting for a condition instead of sleeping."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

T = TypeVar("T")


def free_port() -> int:
    """Return a loopback port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], T], what: str, timeout_s: float = 20.0) -> T:
    """Return the first true answer of ``condition``; fail after ``timeout_s``, naming ``what``."""
    give_up_at = time.monotonic() + timeout_s
    pause = Event()
    while not (answer := condition()):
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"expected {what} within {timeout_s:g} s, got: {answer!r}")
        pause.wait(0.02)
    return answer


def listens(port: int) -> bool:
    """Return whether something accepts connections at a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
