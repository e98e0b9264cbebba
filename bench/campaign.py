"""``campaign``: one message to many recipients, each outcome and attempt recorded."""

from __future__ import annotations

import time

from sqlalchemy.orm import Session

from bench.harness import letters, limit
from bench.harness.contest import Contender, Figures, Series, hold, ratio
from bench.harness.databases import Database, Servers, sqlite
from bench.harness.options import Options
from bench.harness.outboxes import Opened, check_all_recorded, opened, relay_url
from bench.harness.report import Bar, Report
from bench.harness.worker import Worker

NAME = "campaign"
HEADLINE = "msg/s"
_OURS = ("Postroom, PostgreSQL", "Postroom, SQLite")

_EXPLANATION = """\
One message (text and HTML) enqueued to many recipients in one transaction, a copy of its own for
each; then a worker in a process of its own delivers it and records every outcome and attempt,
which is checked afterwards. `msg/s` is delivery, from the first claim to the last commit;
`whole msg/s` counts the time to enqueue as well."""


def run(options: Options) -> Report:
    """Measure ours on both databases beside the limit."""
    count = options.size(full=30_000, short=10_000)
    size_bytes = letters.size_bytes()
    with Servers() as servers:
        contenders = [
            limit.smtp_source(count, size_bytes),
            ours(_OURS[0], servers.postgresql, count),
            ours(_OURS[1], sqlite, count),
        ]
        series = hold(contenders, options.rounds)
    return Report(
        name=NAME,
        title="one message to many recipients",
        explanation=_EXPLANATION,
        headline=HEADLINE,
        parameters={"recipients": count, "bytes a copy": size_bytes, "rounds": options.rounds},
        series=series,
        bars=list(bars(series)),
    )


def bars(series: list[Series]) -> list[Bar]:
    """Return how ours compare with the limit."""
    named = {one.name: one for one in series if one.runs}
    limits = named[limit.NAME]
    return [
        Bar(what=f"{name} / {limit.NAME}", value=ratio(named[name], limits, HEADLINE), least=0.6)
        for name in _OURS
        if name in named
    ]


def ours(name: str, database: Database, count: int) -> Contender:
    """Return our contender on one kind of database."""

    def run() -> Figures:
        with limit.sink() as port, opened(database, relay_url(port)) as outbox:
            with Worker(database=outbox.url, relay=outbox.relay) as worker:
                enqueued_s = enqueue(outbox, count)
                worker.go()
                measured = worker.wait()
            check_all_recorded(outbox, count)
        delivered_s = measured["elapsed_s"]
        return {
            HEADLINE: count / delivered_s,
            "whole msg/s": count / (enqueued_s + delivered_s),
            "enqueue/s": count / enqueued_s,
            "worker CPU us/msg": measured["cpu_s"] / count * 1e6,
            "peak over idle MB": (measured["peak_kib"] - worker.idle_kib) / 1024,
        }

    return Contender(name=name, run=run, note="4 connections, one worker process, defaults")


def enqueue(outbox: Opened, count: int) -> float:
    """Enqueue one message to ``count`` recipients; return how long it took, commit included."""
    message = letters.message()
    to = [letters.address(number) for number in range(count)]
    started = time.perf_counter()
    with Session(outbox.engine) as session, session.begin():
        outbox.outbox.enqueue(session, message, to=to)
    return time.perf_counter() - started
