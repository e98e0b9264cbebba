"""``campaign``: one message to many recipients, each outcome and attempt recorded."""

from __future__ import annotations

from bench.harness import letters, limit, ours, verdicts
from bench.harness.contest import hold
from bench.harness.databases import Servers, sqlite
from bench.harness.options import Options
from bench.harness.report import Report
from bench.peers.contenders import Terms, contenders

NAME = "campaign"
OURS = ("Postroom, PostgreSQL", "Postroom, SQLite")

_EXPLANATION = """\
One message (text and HTML) enqueued to many recipients in one transaction, a copy of its own for
each; then a worker in a process of its own delivers it and records every outcome and attempt,
which is checked afterwards. `msg/s` is delivery, from the first claim to the last commit;
`whole msg/s` counts the time to enqueue as well. Peers build and send the same mail to the same
number of recipients, fewer of them, since they need longer."""


def run(options: Options) -> Report:
    """Measure ours on both databases beside the limit and the peers."""
    count = options.size(full=30_000, short=10_000)
    peers_count = options.size(full=3_000, short=500)
    size_bytes = letters.size_bytes()
    job = ours.Job(
        count=count,
        enqueue=ours.enqueue_one(letters.message(), letters.addresses(count)),
    )
    with Servers() as servers:
        series = hold(
            [
                limit.smtp_source(count, size_bytes),
                ours.contender(OURS[0], servers.postgresql, job),
                ours.contender(OURS[1], sqlite, job),
                *contenders(options, servers, Terms(count=peers_count)),
            ],
            options.rounds,
        )
    return Report(
        name=NAME,
        title="one message to many recipients",
        explanation=_EXPLANATION,
        headline="msg/s",
        parameters={
            "recipients": count,
            "recipients of peers": peers_count,
            "bytes a copy": size_bytes,
            "rounds": options.rounds,
        },
        series=series,
        bars=[
            *verdicts.beside(series, OURS, limit.NAME, least=0.6),
            *verdicts.beside_fastest_durable(series, OURS, least=12),
        ],
    )
