"""How a conversation waits for its socket: alone in its thread, or among others that go on."""

from __future__ import annotations

import select
from abc import abstractmethod

from greenlet import getcurrent, greenlet


class Strand(greenlet):
    """A conversation that shares its thread with others; see `postroom.delivery.hub`."""

    @abstractmethod
    def wait_for(self, descriptor: int, events: int, timeout_s: float) -> bool:
        """Let the others go on until the socket is ready; return whether it was, in time."""


def wait_for(descriptor: int, events: int, timeout_s: float) -> bool:
    """Wait until a socket is ready for ``events`` (``select.POLLIN``, ``select.POLLOUT``).

    Returns whether it was, in time. It may be said too early: the socket has to be tried.
    """
    current = getcurrent()
    if isinstance(current, Strand):
        return current.wait_for(descriptor, events, timeout_s)
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(timeout_s * 1000))
