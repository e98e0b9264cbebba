"""How a conversation waits for its socket: alone in its thread, or as a task among others."""

from __future__ import annotations

import select
from abc import abstractmethod

from greenlet import getcurrent, greenlet


class CooperativeTask(greenlet):
    """A task that shares its thread with others; see `postroom.delivery.scheduler`."""

    @abstractmethod
    def wait_ready(self, descriptor: int, events: int, timeout_s: float) -> bool:
        """Let other tasks run until the socket is ready; return whether it was, in time."""


def wait_ready(descriptor: int, events: int, timeout_s: float) -> bool:
    """Wait until a socket is ready.

    In a task only the task waits; elsewhere the thread does.

    Args:
        descriptor: the socket's file descriptor.
        events: ``select.POLLIN`` (there is something to read) or ``select.POLLOUT`` (there is
            room to write).
        timeout_s: the longest wait, in seconds of ``CLOCK_MONOTONIC``.

    Returns:
        Whether it was ready in time. The socket has to be tried: it may be said too early.
    """
    current = getcurrent()
    if isinstance(current, CooperativeTask):
        return current.wait_ready(descriptor, events, timeout_s)
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(timeout_s * 1000))
