"""Waiting for a socket, in a thread of its own or in a task of the scheduler.

In a task, only the task waits; the other tasks of its thread go on.
"""

from __future__ import annotations

import select
from abc import abstractmethod

from greenlet import getcurrent, greenlet


class CooperativeTask(greenlet):
    """A task that shares its thread with other tasks; see `postroom.delivery.scheduler`."""

    @abstractmethod
    def wait_ready(self, descriptor: int, events: int, timeout_s: float) -> bool:
        """Let other tasks run until the socket is ready; return whether it was ready in time.

        Args:
            descriptor: The socket's file descriptor.
            events: ``select.POLLIN`` or ``select.POLLOUT``.
            timeout_s: The longest wait, in seconds.
        """


def wait_ready(descriptor: int, events: int, timeout_s: float) -> bool:
    """Wait until a socket is ready: in a task only the task waits, elsewhere the thread does.

    Args:
        descriptor: The socket's file descriptor.
        events: ``select.POLLIN`` (there are bytes to read) or ``select.POLLOUT`` (there is
            room to write).
        timeout_s: The longest wait, in seconds of ``CLOCK_MONOTONIC``.

    Returns:
        Whether it was ready in time. It can be reported too early: try the socket.
    """
    current = getcurrent()
    if isinstance(current, CooperativeTask):
        return current.wait_ready(descriptor, events, timeout_s)
    poll = select.poll()
    poll.register(descriptor, events)
    return bool(poll.poll(timeout_s * 1000))
