"""The jobs of one relay: urgent ones first, and none shut out."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping

from postroom.delivery.job import Job
from postroom.delivery.scheduler import TaskCondition


class JobQueue:
    """Jobs for one relay, oldest first within a lane, lanes by their weights.

    ``weights`` are by lane rank. A lane that was empty starts level with the others: it gets no
    credit for the time it had nothing to send, so that its next mail goes out at once and a
    backlog of its own does not shut the others out.
    """

    def __init__(self, weights: Mapping[int, int]) -> None:
        self._lanes: dict[int, deque[Job]] = {lane: deque() for lane in sorted(weights)}
        self._strides = {lane: 1 / weight for lane, weight in weights.items()}
        self._passes = dict.fromkeys(weights, 0.0)
        self._now = 0.0
        self._lock = threading.Lock()
        self._changed = TaskCondition(self._lock)
        self._waiting = 0
        self._is_closed = False

    def __len__(self) -> int:
        """Return how many jobs wait."""
        return sum(map(len, self._lanes.values()))

    @property
    def waiting(self) -> int:
        """Return how many senders wait for a job."""
        return self._waiting

    @property
    def is_closed(self) -> bool:
        """Return whether no more jobs will be handed out."""
        return self._is_closed

    def put(self, jobs: Iterable[Job]) -> None:
        """Add jobs at the end of their lanes."""
        with self._lock:
            for job in jobs:
                self._lane(job).append(job)
            self._changed.notify_all()

    def put_back(self, job: Job) -> None:
        """Return a job that was taken and not spoken of; it is the next of its lane."""
        with self._lock:
            self._lane(job).appendleft(job)
            self._changed.notify()

    def take(self, timeout_s: float) -> Job | None:
        """Return the next job; None when none came in time, or when the queue was closed."""
        with self._lock:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: len(self) or self._is_closed, timeout_s)
            finally:
                self._waiting -= 1
            return self._next()

    def take_now(self) -> Job | None:
        """Return the next job if there is one."""
        with self._lock:
            return self._next()

    def rest(self, timeout_s: float) -> None:
        """Wait for ``timeout_s``, or until the queue is closed."""
        with self._lock:
            self._changed.wait_for(lambda: self._is_closed, timeout_s)

    def close(self) -> list[Job]:
        """Hand out nothing more; return what was still waiting."""
        with self._lock:
            self._is_closed = True
            self._changed.notify_all()
            return self._emptied()

    def _emptied(self) -> list[Job]:
        left = [job for lane in self._lanes.values() for job in lane]
        for lane in self._lanes.values():
            lane.clear()
        return left

    def _lane(self, job: Job) -> deque[Job]:
        rank = job.claims[0].lane
        lane = self._lanes[rank]
        if not lane:
            self._passes[rank] = max(self._passes[rank], self._now)
        return lane

    def _next(self) -> Job | None:
        """Return the first job of the lane that is furthest behind its share."""
        waiting = [rank for rank, lane in self._lanes.items() if lane]
        if not waiting or self._is_closed:
            return None
        rank = waiting[0] if len(waiting) == 1 else min(waiting, key=self._passes.__getitem__)
        self._now = self._passes[rank]
        self._passes[rank] += self._strides[rank]
        return self._lanes[rank].popleft()
