"""``depth``: is a worker slower when a million mails wait than when there are few?"""

from __future__ import annotations

import time

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from bench.harness import letters, limit, ours
from bench.harness.contest import Contender, Figures, Series, hold, ratio
from bench.harness.databases import Database, Servers, sqlite
from bench.harness.options import Options
from bench.harness.outboxes import Opened, opened, relay_url
from bench.harness.report import Bar, Report
from bench.harness.worker import Worker

NAME = "depth"

_EXPLANATION = """\
Recipients that are due wait in the queue; the worker's rate is taken over the same number of
deliveries, however many there are behind them."""


def run(options: Options) -> Report:
    """Measure a shallow and a deep queue on both databases."""
    shallow = options.size(full=20_000, short=6_000)
    deep = shallow * (10 if options.short else 50)
    measured = shallow // 2
    depths = {"few": shallow, "many": deep}
    with Servers() as servers:
        databases = {"PostgreSQL": servers.postgresql, "SQLite": sqlite}
        series = hold(
            [
                _contender(f"{name}, {word}", database, depth, measured)
                for name, database in databases.items()
                for word, depth in depths.items()
            ],
            options.rounds,
        )
    return Report(
        name=NAME,
        title="few mails waiting, or a million",
        explanation=_EXPLANATION,
        headline="msg/s",
        parameters={**depths, "deliveries measured": measured, "rounds": options.rounds},
        series=series,
        bars=[_bar(series, name) for name in databases],
    )


def _bar(series: list[Series], name: str) -> Bar:
    named = {one.name: one for one in series}
    value = ratio(named[f"{name}, many"], named[f"{name}, few"], "msg/s")
    return Bar(what=f"{name}: many / few", value=value, least=0.9)


def _contender(name: str, database: Database, depth: int, measured: int) -> Contender:
    enqueue = ours.enqueue_one(letters.message(), letters.addresses(depth))

    def run() -> Figures:
        with (
            limit.sink() as port,
            opened(database, relay_url(port)) as outbox,
            Worker(database=outbox.url, relay=outbox.relay, until_stopped=True) as worker,
        ):
            enqueue(outbox)
            worker.go()
            began = _reached(outbox, measured // 4)
            ended = _reached(outbox, began[0] + measured)
            worker.stop()
        return {"msg/s": (ended[0] - began[0]) / (ended[1] - began[1])}

    return Contender(name=name, run=run, is_ours=True)


def _reached(outbox: Opened, count: int) -> tuple[int, float]:
    """Wait until ``count`` attempts are recorded; return how many and when."""
    attempts = outbox.tables.attempt
    while True:
        with Session(outbox.engine) as session:
            found = session.scalar(select(func.max(attempts.c.id))) or 0
        now = time.perf_counter()
        if found >= count:
            return found, now
        time.sleep(0.02)
