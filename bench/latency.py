"""``latency``: from the application's commit to the relay's 250, with nothing else to do."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from random import Random
from typing import TypeAlias

from sqlalchemy.orm import Session

from bench.harness import letters
from bench.harness.contest import Contender, Figures, Series, hold
from bench.harness.databases import Database, Servers, sqlite
from bench.harness.options import Options
from bench.harness.outboxes import Opened, opened, relay_url
from bench.harness.relays import Relay
from bench.harness.report import Bar, Report
from bench.harness.worker import Worker

NAME = "latency"

_EXPLANATION = """\
Single mails, each enqueued and committed by itself on an idle system, 20 to 40 ms apart. Measured
from the call of `commit()`, so that the database's own commit is part of it, to the moment the
relay has written its 250. *In process*: `outbox.start()` in the application. *NOTIFY*: a worker
process, woken by PostgreSQL."""

#: Has a worker at work for the time of the ``with`` block.
Deliverer: TypeAlias = Callable[[Opened], AbstractContextManager[None]]


def run(options: Options) -> Report:
    """Measure the three ways in which mail finds a worker at once."""
    count = options.size(full=1000, short=200)
    with Servers() as servers:
        ways: list[tuple[str, Database, Deliverer]] = [
            ("in process, SQLite", sqlite, _in_process),
            ("in process, PostgreSQL", servers.postgresql, _in_process),
            ("worker process, PostgreSQL with NOTIFY", servers.postgresql, _worker_process),
        ]
        contenders = [_contender(*way, count) for way in ways]
        series = hold(contenders, options.rounds)
    return Report(
        name=NAME,
        title="from commit to the relay's 250",
        explanation=_EXPLANATION,
        headline="p50 ms",
        parameters={"mails": count, "rounds": options.rounds},
        series=series,
        bars=[bar for one in series if one.runs for bar in _bars(one)],
    )


def _bars(series: Series) -> list[Bar]:
    return [
        Bar(what=f"{series.name}: p50 ms", value=series.median("p50 ms"), most=5),
        Bar(what=f"{series.name}: p99 ms", value=series.median("p99 ms"), most=25),
    ]


def _contender(name: str, database: Database, deliverer: Deliverer, count: int) -> Contender:
    def measured() -> Figures:
        with Relay() as relay, opened(database, relay_url(relay.port, connections=1)) as outbox:
            with deliverer(outbox):
                # The first mail connects; it is not counted.
                _send(outbox, -1)
                time.sleep(1)
                committed = _sent(outbox, count)
                time.sleep(1)
            stamps = dict(relay.stamps())
        taken = [
            (stamps[letters.address(number)] - at) * 1000 for number, at in enumerate(committed)
        ]
        hundredths = statistics.quantiles(taken, n=100)
        return {"p50 ms": hundredths[49], "p99 ms": hundredths[98], "max ms": max(taken)}

    return Contender(name=name, run=measured, is_ours=True)


def _sent(outbox: Opened, count: int) -> list[float]:
    """Send mails, one at a time; return when each commit was called."""
    random = Random(1)
    committed = []
    for number in range(count):
        committed.append(_send(outbox, number))
        time.sleep(random.uniform(0.02, 0.04))
    return committed


def _send(outbox: Opened, number: int) -> float:
    with Session(outbox.engine) as session:
        outbox.outbox.enqueue(session, letters.message(), to=[letters.address(number)])
        called_at = time.monotonic()
        session.commit()
    return called_at


@contextmanager
def _in_process(outbox: Opened) -> Iterator[None]:
    with outbox.outbox.running():
        yield


@contextmanager
def _worker_process(outbox: Opened) -> Iterator[None]:
    with Worker(database=outbox.url, relay=outbox.relay, until_stopped=True) as worker:
        worker.go()
        yield
        worker.stop()
