"""Several workers at work on one outbox, whoever of them is killed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from subprocess import Popen

from tests.faults.site import Site


class Crew:
    """So many workers at work at any time, whoever is killed."""

    def __init__(self, site: Site, size: int) -> None:
        self._site = site
        self.workers = [site.worker() for _ in range(size)]

    def kill(self, number: int) -> None:
        """Kill one and start another in its place."""
        with self.workers[number] as worker:
            worker.kill()
        self.workers[number] = self._site.worker()

    def end(self) -> None:
        """Wait until all have found nothing left to do."""
        for worker in self.workers:
            assert worker.wait(180) == 0


@contextmanager
def crew(site: Site, size: int) -> Iterator[Crew]:
    """Put a crew to work; leave nobody behind."""
    with ExitStack() as stack:
        at_work = Crew(site, size)
        stack.callback(_end_all, at_work.workers)
        yield at_work


def _end_all(workers: list[Popen[bytes]]) -> None:
    for worker in workers:
        with worker:
            worker.kill()
