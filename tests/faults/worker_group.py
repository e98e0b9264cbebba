"""Several workers on one outbox, whichever of them is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from subprocess import Popen

from tests.faults.fault_setup import FaultSetup


class WorkerGroup:
    """As many workers at any time as were asked for, whichever are killed."""

    def __init__(self, setup: FaultSetup, size: int) -> None:
        self._setup = setup
        self.workers = [setup.worker() for _ in range(size)]

    def kill(self, number: int) -> None:
        """Kill one and start another in its place."""
        with self.workers[number] as worker:
            worker.kill()
        self.workers[number] = self._setup.worker()

    def end(self) -> None:
        """Wait until all have found nothing left to do."""
        for worker in self.workers:
            assert worker.wait(180) == 0


@contextmanager
def worker_group(setup: FaultSetup, size: int) -> Iterator[WorkerGroup]:
    """Start a group of workers; end those that are left."""
    with ExitStack() as stack:
        group = WorkerGroup(setup, size)
        stack.callback(_end_all, group.workers)
        yield group


def _end_all(workers: list[Popen[bytes]]) -> None:
    for worker in workers:
        with worker:
            worker.kill()
