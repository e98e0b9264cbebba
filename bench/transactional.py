"""``transactional``: many mails that all differ, from one template."""

from __future__ import annotations

import time

from sqlalchemy.orm import Session

from bench.harness import letters, limit, ours, verdicts
from bench.harness.contest import hold
from bench.harness.databases import Servers, sqlite
from bench.harness.options import Options
from bench.harness.outboxes import Opened
from bench.harness.report import Report
from bench.peers.contenders import Terms, contenders

NAME = "transactional"
OURS = ("Postroom, PostgreSQL", "Postroom, SQLite")

_MAILS_A_TRANSACTION = 100

_EXPLANATION = f"""\
As many messages as recipients, each rendered from a Jinja template for text and HTML with values
of its own, enqueued {_MAILS_A_TRANSACTION} to a transaction; then a worker process delivers them.
Peers are given fewer mails, whose bodies differ by a replaced number only, which costs them less
than rendering."""


def run(options: Options) -> Report:
    """Measure ours on both databases beside the limit and the peers."""
    count = options.size(full=10_000, short=3_000)
    peers_count = options.size(full=3_000, short=500)
    size_bytes = letters.size_bytes()
    job = ours.Job(count=count, enqueue=_enqueue(count))
    terms = Terms(count=peers_count, is_each_different=True)
    with Servers() as servers:
        series = hold(
            [
                limit.smtp_source(count, size_bytes),
                ours.contender(OURS[0], servers.postgresql, job),
                ours.contender(OURS[1], sqlite, job),
                *contenders(options, servers, terms),
            ],
            options.rounds,
        )
    return Report(
        name=NAME,
        title="mails that all differ",
        explanation=_EXPLANATION,
        headline="msg/s",
        parameters={
            "mails": count,
            "mails of peers": peers_count,
            "bytes a mail of the limit": size_bytes,
            "rounds": options.rounds,
        },
        series=series,
        bars=[
            *verdicts.beside(series, OURS, limit.NAME, least=0.3),
            *verdicts.beside_fastest_durable(series, OURS, least=8),
        ],
    )


def _enqueue(count: int) -> ours.Enqueue:
    def enqueue(outbox: Opened) -> float:
        started = time.perf_counter()
        for first in range(0, count, _MAILS_A_TRANSACTION):
            with Session(outbox.engine) as session, session.begin():
                for number in range(first, min(first + _MAILS_A_TRANSACTION, count)):
                    message, to = letters.order(number)
                    outbox.outbox.enqueue(session, message, to=[to])
        return time.perf_counter() - started

    return enqueue
