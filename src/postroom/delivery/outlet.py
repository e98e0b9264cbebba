"""A relay as a worker uses it: the queue for it, its breaker, and senders as they are needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from postroom.delivery.connection_limit import ConnectionLimit
from postroom.delivery.job import Job
from postroom.delivery.queue import JobQueue
from postroom.delivery.scheduler import TaskCondition
from postroom.delivery.throttle import Throttle
from postroom.log import Log
from postroom.smtp.breaker import Breaker
from postroom.values.errors import named
from postroom.values.relay import Relay

log = Log("postroom.delivery")

#: A sender waits so long for the relay's rate with a job in hand; what is further off is put off.
LONGEST_WAIT_S = 1.0
#: A refused connection waits so long for those that are being made, to see how they fare.
_OTHERS_S = 5.0


class NoSender(Exception):
    """No sender is at work, and none can be started."""


class SenderLike(Protocol):
    """A sender, as its outlet sees it."""

    @property
    def has_ended(self) -> bool:
        """Return whether it takes no more jobs."""
        ...

    @property
    def is_connected(self) -> bool:
        """Return whether it holds a connection."""
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
        limit: ConnectionLimit,
        queue: JobQueue,
        start: Callable[[Outlet], SenderLike],
    ) -> None:
        self.relay = relay
        self.breaker = breaker
        self.throttle = throttle
        self.queue = queue
        self.limit = limit
        self._start = start
        self._senders: list[SenderLike] = []
        self._connecting = 0
        self._lock = threading.Lock()
        self._changed = TaskCondition(self._lock)

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
        wanted = min(len(jobs) - self.queue.waiting, self.limit.current() - len(self._senders))
        try:
            for _ in range(wanted):
                self._senders.append(self._start(self))
        except (RuntimeError, OSError, MemoryError) as error:
            # Out of threads or of file descriptors: those who are at work go on.
            if not self._senders:
                raise NoSender(named(error)) from error
            log.warning("could not start a sender for %s: %s", self.relay.name, named(error))
        self.queue.put(jobs)

    def ended(self, sender: SenderLike) -> None:
        """Take note that a sender has come to its end."""
        if sender in self._senders:
            self._senders.remove(sender)

    @property
    def may_connect(self) -> bool:
        """Return whether one more connection is within what the relay lets us have."""
        return self._standing + self._connecting < self.limit.current()

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Count a connection that is being made, for others to wait for."""
        self._connecting += 1
        try:
            yield
            self.limit.let_in(self._standing + 1)
        finally:
            with self._lock:
                self._connecting -= 1
                self._changed.notify_all()

    def has_others(self) -> bool:
        """Return whether other connections to the relay stand, now that one was refused.

        Those that are being made are waited for. Where others stand the relay has a limit of its
        own, and that is kept to from here on; where none does it was away.
        """
        with self._lock:
            self._changed.wait_for(lambda: self._standing or not self._connecting, _OTHERS_S)
            standing = self._standing
        if standing:
            self.limit.refused(standing)
        else:
            self.limit.forget()
        return standing > 0

    @property
    def _standing(self) -> int:
        return sum(sender.is_connected for sender in self._senders)

    def close(self) -> list[Job]:
        """Let senders end after the transaction they are in; return the jobs left over."""
        return self.queue.close()

    def join(self, timeout_s: float) -> None:
        """Wait for the senders to end, ``timeout_s`` at the most for each."""
        for sender in list(self._senders):
            sender.join(timeout_s)

    def cut(self) -> None:
        """Cut every connection: what is on the wire ends, some of it in doubt."""
        for sender in list(self._senders):
            sender.cut()
