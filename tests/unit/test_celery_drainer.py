"""One drain at a time in a process, and no hint that falls between two of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

from postroom.integrations.celery.drainer import OutboxDrainer
from postroom.outbox import Outbox


class Worker:
    """Drains when the test lets it; counts what it is told."""

    def __init__(self, drain: Callable[[float], bool]) -> None:
        self._drain = drain
        self.hints = 0
        self.stops = 0

    def drain(self, budget_s: float) -> bool:
        return self._drain(budget_s)

    def wake(self) -> None:
        self.hints += 1

    def stop(self) -> None:
        self.stops += 1


class Site:
    def __init__(self, drain: Callable[[float], bool], budget_s: float = 10.0) -> None:
        self.now = 0.0
        self.workers: list[Worker] = []
        self._drain = drain
        self.shift = OutboxDrainer(cast(Outbox, self), budget_s, clock=lambda: self.now)

    def worker(self, **options: Any) -> Worker:
        assert options == {"keep_connections": True}
        self.workers.append(Worker(self._drain))
        return self.workers[-1]


def test_it_says_whether_all_that_was_due_has_gone() -> None:
    assert Site(lambda budget_s: True).shift.drain()
    assert not Site(lambda budget_s: False).shift.drain()


def test_a_second_task_returns_at_once_and_is_served_by_the_first() -> None:
    at_work, may_end = threading.Event(), threading.Event()

    def drain(budget_s: float) -> bool:
        at_work.set()
        return may_end.wait(10)

    site = Site(drain)
    first = threading.Thread(target=site.shift.drain)
    first.start()
    assert at_work.wait(10)
    assert site.shift.drain()
    (worker,) = site.workers
    assert worker.hints == 1
    may_end.set()
    first.join(10)
    assert len(site.workers) == 2  # once more for what came when it may have been about to end


def test_all_its_drains_share_one_budget() -> None:
    budgets: list[float] = []

    def drain(budget_s: float) -> bool:
        budgets.append(budget_s)
        site.now += 6
        threading.Thread(target=site.shift.drain).start()
        while not site.shift._wanted.is_set():
            pass
        return True

    site = Site(drain)
    assert not site.shift.drain()
    assert budgets == [10, 4]


def test_an_error_leaves_the_way_free_for_the_next_task() -> None:
    outcomes = iter([OSError("no database"), None])

    def drain(budget_s: float) -> bool:
        if error := next(outcomes):
            raise error
        return True

    site = Site(drain)
    try:
        site.shift.drain()
    except OSError:
        assert site.shift.drain()
    else:
        raise AssertionError("expected the error to be seen")


def test_stopping_reaches_the_drain_under_way() -> None:
    site = Site(lambda budget_s: site.shift.stop() is None)
    site.shift.stop()  # nobody is at work: nothing happens
    site.shift.drain()
    assert [worker.stops for worker in site.workers] == [1]
