"""``soak``: hundreds of thousands of mails through one worker; does it grow?"""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import letters, limit, ours
from bench.harness.contest import Contender, Figures, hold
from bench.harness.databases import Database, Servers, sqlite
from bench.harness.options import Options
from bench.harness.outboxes import Opened, check_all_recorded, opened, relay_url
from bench.harness.report import Bar, Report
from bench.harness.worker import Worker

NAME = "soak"

_RECIPIENTS_A_MESSAGE = 1_000
_EVERY_S = 0.25
_GROWTH = "growth MB"
_THREADS = "more threads"
_DESCRIPTORS = "more descriptors"

_EXPLANATION = f"""\
Messages of {_RECIPIENTS_A_MESSAGE:,} recipients each, through one worker process that is looked at
four times a second. The first fifth is warm-up; growth is the slope of its memory (VmRSS) over
what follows, times the time; threads and descriptors are compared by the medians of the first and
the last third."""


def run(options: Options) -> Report:
    """Run it on both databases."""
    count = options.size(full=500_000, short=40_000)
    with Servers() as servers:
        series = hold(
            [
                _contender("Postroom, PostgreSQL", servers.postgresql, count),
                _contender("Postroom, SQLite", sqlite, count),
            ],
            # A long run is its own repetition.
            rounds=1,
        )
    return Report(
        name=NAME,
        title="does a worker grow?",
        explanation=_EXPLANATION,
        headline="msg/s",
        parameters={"mails": count},
        series=series,
        bars=[
            Bar(what=f"{one.name}: {figure}", value=max(one.values(figure)), most=most)
            for one in series
            if one.runs
            for figure, most in ((_GROWTH, 5), (_THREADS, 0), (_DESCRIPTORS, 0))
        ],
    )


def _contender(name: str, database: Database, count: int) -> Contender:
    def run() -> Figures:
        with (
            limit.sink() as port,
            opened(database, relay_url(port)) as outbox,
            Worker(database=outbox.url, relay=outbox.relay) as worker,
        ):
            _enqueue(outbox, count)
            with _watched(worker.pid) as watch:
                worker.go()
                measured = worker.wait()
            check_all_recorded(outbox, count)
        return {"msg/s": count / measured["elapsed_s"], **watch.figures()}

    return Contender(name=name, run=run, is_ours=True)


def _enqueue(outbox: Opened, count: int) -> None:
    for first in range(0, count, _RECIPIENTS_A_MESSAGE):
        numbers = range(first, min(first + _RECIPIENTS_A_MESSAGE, count))
        message = letters.message(tags=[f"soak-{first}"])
        ours.enqueue_one(message, map(letters.address, numbers))(outbox)


@dataclass(slots=True)
class Watch:
    """What was seen of a process, ``_EVERY_S`` apart."""

    memory_mb: list[float] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)

    def look(self, process: Path) -> None:
        """Take note of how it is now."""
        status = dict(
            line.split(":\t", 1)
            for line in (process / "status").read_text().splitlines()
            if ":\t" in line
        )
        if "VmRSS" in status:
            self.memory_mb.append(int(status["VmRSS"].split()[0]) / 1024)
            self.threads.append(int(status["Threads"]))
            self.descriptors.append(len(list((process / "fd").iterdir())))

    def figures(self) -> Figures:
        """Return what grew after the warm-up; the last looks are left out, where it ends."""
        start, end = len(self.memory_mb) // 5, -4
        memory = self.memory_mb[start:end]
        slope = statistics.linear_regression(range(len(memory)), memory).slope
        return {
            "memory MB": statistics.median(memory),
            _GROWTH: slope * len(memory),
            _THREADS: _grown(self.threads[start:end]),
            _DESCRIPTORS: _grown(self.descriptors[start:end]),
        }


def _grown(looks: list[int]) -> float:
    """Return how many more there were at the end, whatever came and went within one look.

    A connection is made in a thread of its own, which lives for a millisecond.
    """
    third = len(looks) // 3 or 1
    return statistics.median(looks[-third:]) - statistics.median(looks[:third])


@contextmanager
def _watched(pid: int) -> Iterator[Watch]:
    watch, over = Watch(), threading.Event()

    def look() -> None:
        while not over.wait(_EVERY_S):
            watch.look(Path(f"/proc/{pid}"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()
