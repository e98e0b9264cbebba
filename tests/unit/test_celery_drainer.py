"""One drain at a time in a process, and no wakeup that falls between two of them."""

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
        self.wakeups = 0
        self.stops = 0

    def drain(self, budget_s: float) -> bool:
        return self._drain(budget_s)

    def wake(self) -> None:
        self.wakeups += 1

    def stop(self) -> None:
        self.stops += 1


class Setup:
    def __init__(self, drain: Callable[[float], bool], budget_s: float = 10.0) -> None:
        self.now = 0.0
        self.workers: list[Worker] = []
        self._drain = drain
        self.drainer = OutboxDrainer(cast(Outbox, self), budget_s, clock=lambda: self.now)

    def worker(self, **options: Any) -> Worker:
        assert options == {"keep_connections": True}
        self.workers.append(Worker(self._drain))
        return self.workers[-1]


def test_it_says_whether_all_that_was_due_has_gone() -> None:
    assert Setup(lambda budget_s: True).drainer.drain()
    assert not Setup(lambda budget_s: False).drainer.drain()


def test_a_second_task_returns_at_once_and_is_served_by_the_first() -> None:
    at_work, may_end = threading.Event(), threading.Event()

    def drain(budget_s: float) -> bool:
        at_work.set()
        return may_end.wait(10)

    setup = Setup(drain)
    first = threading.Thread(target=setup.drainer.drain)
    first.start()
    assert at_work.wait(10)
    assert setup.drainer.drain()
    (worker,) = setup.workers
    assert worker.wakeups == 1
    may_end.set()
    first.join(10)
    assert len(setup.workers) == 2  # once more for what came when it may have been about to end


def test_all_its_drains_share_one_budget() -> None:
    budgets: list[float] = []

    def drain(budget_s: float) -> bool:
        budgets.append(budget_s)
        setup.now += 6
        threading.Thread(target=setup.drainer.drain).start()
        while not setup.drainer._wanted.is_set():
            pass
        return True

    setup = Setup(drain)
    assert not setup.drainer.drain()
    assert budgets == [10, 4]


def test_an_error_leaves_the_way_free_for_the_next_task() -> None:
    outcomes = iter([OSError("no database"), None])

    def drain(budget_s: float) -> bool:
        if error := next(outcomes):
            raise error
        return True

    setup = Setup(drain)
    try:
        setup.drainer.drain()
    except OSError:
        assert setup.drainer.drain()
    else:
        raise AssertionError("expected the error to be seen")


def test_stopping_reaches_the_drain_under_way() -> None:
    setup = Setup(lambda budget_s: setup.drainer.stop() is None)
    setup.drainer.stop()  # nobody is at work: nothing happens
    setup.drainer.drain()
    assert [worker.stops for worker in setup.workers] == [1]
