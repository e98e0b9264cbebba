"""A relay as a worker uses it: a queue for it, and senders, as many as are needed and allowed."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from postroom.delivery.mail_transaction import MailTransaction
from postroom.delivery.scheduler import TaskCondition
from postroom.errors import named
from postroom.log import Log
from postroom.relays.circuit_breaker import CircuitBreaker
from postroom.relays.discovered_limits import ConnectionLimit
from postroom.relays.rate_limits import Throttle
from postroom.relays.relay import Relay


class LaneQueue:
    """Mail transactions for one relay, oldest first within a lane, lanes by their weights.

    ``weights`` are by lane rank. A lane that was empty starts level with the others: it gets no
    credit for the time it had nothing to send, so that its next mail goes out at once and a
    backlog of its own does not shut the others out.
    """

    def __init__(self, weights: Mapping[int, int]) -> None:
        self._lanes: dict[int, deque[MailTransaction]] = {lane: deque() for lane in sorted(weights)}
        self._strides = {lane: 1 / weight for lane, weight in weights.items()}
        self._passes = dict.fromkeys(weights, 0.0)
        self._now = 0.0
        self._lock = threading.Lock()
        self._changed = TaskCondition(self._lock)
        self._waiting = 0
        self._is_closed = False

    def __len__(self) -> int:
        """Return how many transactions wait."""
        return sum(map(len, self._lanes.values()))

    @property
    def waiting(self) -> int:
        """Return how many senders wait for a transaction."""
        return self._waiting

    @property
    def is_closed(self) -> bool:
        """Return whether no more transactions will be handed out."""
        return self._is_closed

    def put(self, transactions: Iterable[MailTransaction]) -> None:
        """Add transactions at the end of their lanes."""
        with self._lock:
            for transaction in transactions:
                self._lane(transaction).append(transaction)
            self._changed.notify_all()

    def put_front(self, transaction: MailTransaction) -> None:
        """Return a transaction that was taken and not tried; it is the next of its lane."""
        with self._lock:
            self._lane(transaction).appendleft(transaction)
            self._changed.notify()

    def get(self, timeout_s: float) -> MailTransaction | None:
        """Return the next transaction; None when none came in time, or the queue was closed."""
        with self._lock:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: len(self) or self._is_closed, timeout_s)
            finally:
                self._waiting -= 1
            return self._next()

    def get_nowait(self) -> MailTransaction | None:
        """Return the next transaction if there is one."""
        with self._lock:
            return self._next()

    def wait_until_closed(self, timeout_s: float) -> None:
        """Wait for ``timeout_s``, or until the queue is closed."""
        with self._lock:
            self._changed.wait_for(lambda: self._is_closed, timeout_s)

    def close(self) -> list[MailTransaction]:
        """Hand out nothing more; return what was still waiting."""
        with self._lock:
            self._is_closed = True
            self._changed.notify_all()
            return self._emptied()

    def _emptied(self) -> list[MailTransaction]:
        left = [transaction for lane in self._lanes.values() for transaction in lane]
        for lane in self._lanes.values():
            lane.clear()
        return left

    def _lane(self, transaction: MailTransaction) -> deque[MailTransaction]:
        rank = transaction.claims[0].lane
        lane = self._lanes[rank]
        if not lane:
            self._passes[rank] = max(self._passes[rank], self._now)
        return lane

    def _next(self) -> MailTransaction | None:
        """Return the first transaction of the lane that is furthest behind its share."""
        waiting = [rank for rank, lane in self._lanes.items() if lane]
        if not waiting or self._is_closed:
            return None
        rank = waiting[0] if len(waiting) == 1 else min(waiting, key=self._passes.__getitem__)
        self._now = self._passes[rank]
        self._passes[rank] += self._strides[rank]
        return self._lanes[rank].popleft()


log = Log("postroom.delivery")

#: A sender waits so long for the relay's rate with a transaction in hand; else it is deferred.
LONGEST_WAIT_S = 1.0
#: A refused connection waits so long for those that are being made, to see what becomes of them.
_OTHERS_S = 5.0


class NoSender(Exception):
    """No sender runs, and none can be started."""


class SenderHandle(Protocol):
    """A sender, as its pool sees it."""

    @property
    def has_ended(self) -> bool:
        """Return whether it takes no more transactions."""
        ...

    @property
    def is_connected(self) -> bool:
        """Return whether it holds a connection."""
        ...

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended."""
        ...

    def abort(self) -> None:
        """Cut the connection under what it is sending."""
        ...


class SenderPool:
    """The queue and the senders of one relay.

    Args:
        relay: Which.
        breaker: Its circuit breaker.
        throttle: What counts against its rates.
        limit: How many connections it lets us have.
        queue: What waits for it.
        start: Makes and starts a sender for the pool it is given.
    """

    def __init__(
        self,
        relay: Relay,
        *,
        breaker: CircuitBreaker,
        throttle: Throttle,
        limit: ConnectionLimit,
        queue: LaneQueue,
        start: Callable[[SenderPool], SenderHandle],
    ) -> None:
        self.relay = relay
        self.breaker = breaker
        self.throttle = throttle
        self.queue = queue
        self.limit = limit
        self._start = start
        self._senders: list[SenderHandle] = []
        self._connecting = 0
        self._lock = threading.Lock()
        self._changed = TaskCondition(self._lock)

    def retry_after_s(self) -> float:
        """Return how long nothing should be claimed for this relay; 0 where something may."""
        rate_s = self.throttle.relay_retry_after_s()
        return max(self.breaker.retry_after_s(), rate_s if rate_s > LONGEST_WAIT_S else 0.0)

    def submit(self, transactions: list[MailTransaction]) -> None:
        """Queue transactions, and start another sender for each that nobody waits for.

        Raises:
            NoSender: none runs, and none can be started; nothing was queued.
        """
        self._senders = [sender for sender in self._senders if not sender.has_ended]
        wanted = min(
            len(transactions) - self.queue.waiting, self.limit.current() - len(self._senders)
        )
        try:
            for _ in range(wanted):
                self._senders.append(self._start(self))
        except (RuntimeError, OSError, MemoryError) as error:
            # Out of threads or of file descriptors: those that run go on.
            if not self._senders:
                raise NoSender(named(error)) from error
            log.warning("could not start a sender for %s: %s", self.relay.name, named(error))
        self.queue.put(transactions)

    def ended(self, sender: SenderHandle) -> None:
        """Take note that a sender has come to its end."""
        if sender in self._senders:
            self._senders.remove(sender)

    @property
    def may_connect(self) -> bool:
        """Return whether one more connection is within what the relay lets us have."""
        return self._connected + self._connecting < self.limit.current()

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Count a connection that is being made, for others to wait for."""
        self._connecting += 1
        try:
            yield
            self.limit.let_in(self._connected + 1)
        finally:
            with self._lock:
                self._connecting -= 1
                self._changed.notify_all()

    def has_others(self) -> bool:
        """Return whether there are other connections to the relay, now that one was refused.

        Those that are being made are waited for. Where there are others the relay has a limit of
        its own, which is kept to from here on; where there are none it was away.
        """
        with self._lock:
            self._changed.wait_for(lambda: self._connected or not self._connecting, _OTHERS_S)
            connected = self._connected
        if connected:
            self.limit.refused(connected)
        else:
            self.limit.forget()
        return connected > 0

    @property
    def _connected(self) -> int:
        return sum(sender.is_connected for sender in self._senders)

    def close(self) -> list[MailTransaction]:
        """Let senders end after the transaction they are in; return the transactions left over."""
        return self.queue.close()

    def join(self, timeout_s: float) -> None:
        """Wait for the senders to end, ``timeout_s`` at the most for each."""
        for sender in list(self._senders):
            sender.join(timeout_s)

    def abort(self) -> None:
        """Cut every connection: what is being sent ends, some of it in doubt."""
        for sender in list(self._senders):
            sender.abort()
