"""A relay as a worker uses it: the queue for it, its breaker, and senders as they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from postroom.delivery.job import Job
from postroom.delivery.queue import JobQueue
from postroom.delivery.throttle import Throttle
from postroom.log import Log
from postroom.smtp.breaker import Breaker
from postroom.values.errors import named
from postroom.values.relay import Relay

log = Log("postroom.delivery")

#: A sender waits so long for the relay's rate with a job in hand; what is further off is put off.
LONGEST_WAIT_S = 1.0


class NoSender(Exception):
    """No sender is at work, and none can be started."""


class SenderLike(Protocol):
    """A sender, as its outlet sees it."""

    @property
    def has_ended(self) -> bool:
        """Return whether it takes no more jobs."""
        ...

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended."""
        ...

    def cut(self) -> None:
        """Cut the connection under what it is speaking."""
        ...


class Outlet:
    """One relay's queue and senders.

    ``start`` makes and starts a sender for the outlet it is given.
    """

    def __init__(
        self,
        relay: Relay,
        *,
        breaker: Breaker,
        throttle: Throttle,
        queue: JobQueue,
        start: Callable[[Outlet], SenderLike],
    ) -> None:
        self.relay = relay
        self.breaker = breaker
        self.throttle = throttle
        self.queue = queue
        self._start = start
        self._senders: list[SenderLike] = []

    def pause_s(self) -> float:
        """Return how long nothing should be claimed for this relay; 0 where something may."""
        rate_s = self.throttle.relay_pause_s()
        return max(self.breaker.pause_s(), rate_s if rate_s > LONGEST_WAIT_S else 0.0)

    def put(self, jobs: list[Job]) -> None:
        """Queue jobs, and start another sender for each that nobody waits for.

        Raises:
            NoSender: none is at work, and none can be started; nothing was queued.
        """
        self._senders = [sender for sender in self._senders if not sender.has_ended]
        wanted = min(len(jobs) - self.queue.waiting, self.relay.connections - len(self._senders))
        try:
            for _ in range(wanted):
                self._senders.append(self._start(self))
        except (RuntimeError, OSError, MemoryError) as error:
            # Out of threads or of file descriptors: those who are at work go on.
            if not self._senders:
                raise NoSender(named(error)) from error
            log.warning("could not start a sender for %s: %s", self.relay.name, named(error))
        self.queue.put(jobs)

    def close(self) -> list[Job]:
        """Let senders end after the transaction they are in; return the jobs left over."""
        return self.queue.close()

    def join(self, timeout_s: float) -> None:
        """Wait for the senders to end, ``timeout_s`` at the most for each."""
        for sender in self._senders:
            sender.join(timeout_s)

    def cut(self) -> None:
        """Cut every connection: what is on the wire ends, some of it in doubt."""
        for sender in self._senders:
            sender.cut()
