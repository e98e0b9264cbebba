"""``scale``: one, two and four workers on PostgreSQL, against a relay that takes its time."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack

from bench.harness import letters, ours
from bench.harness.contest import Contender, Figures, Series, hold, ratio
from bench.harness.databases import Servers
from bench.harness.options import Options
from bench.harness.outboxes import check_all_recorded, opened, relay_url
from bench.harness.relays import Relay
from bench.harness.report import Bar, Report
from bench.harness.worker import Worker

NAME = "scale"

_REPLY_S = 0.005
_CONNECTIONS = 2
_WORKERS = (1, 2, 4)
_DOUBLE = "sent twice"

_EXPLANATION = f"""\
Worker processes share one outbox and send to a relay that answers the final dot after 5 ms, each
over {_CONNECTIONS} connections, so that it is the relay they wait for and not the processor. The
relay counts who was written to more than once."""


def run(options: Options) -> Report:
    """Measure every number of workers."""
    each = options.size(full=4_000, short=1_000)
    with Servers() as servers:
        series = hold([_contender(n, n * each, servers) for n in _WORKERS], options.rounds)
    return Report(
        name=NAME,
        title="several workers",
        explanation=_EXPLANATION,
        headline="msg/s",
        parameters={"mails a worker": each, "rounds": options.rounds},
        series=series,
        bars=[
            *(_linear(series, n) for n in range(1, len(_WORKERS))),
            Bar(what=_DOUBLE, value=max(max(one.values(_DOUBLE)) for one in series), most=0),
        ],
    )


def _linear(series: list[Series], number: int) -> Bar:
    value = ratio(series[number], series[0], "msg/s") / _WORKERS[number]
    return Bar(what=f"{series[number].name}: of linear", value=value, least=0.9)


def _contender(workers: int, count: int, servers: Servers) -> Contender:
    enqueue = ours.enqueue_one(letters.message(), letters.addresses(count))

    def run() -> Figures:
        with Relay(_REPLY_S) as relay, ExitStack() as stack:
            url = relay_url(relay.port, connections=_CONNECTIONS)
            outbox = stack.enter_context(opened(servers.postgresql, url))
            crew = [
                stack.enter_context(Worker(database=outbox.url, relay=outbox.relay))
                for _ in range(workers)
            ]
            enqueue(outbox)
            for worker in crew:
                worker.go()
            elapsed_s = max(worker.wait()["elapsed_s"] for worker in crew)
            check_all_recorded(outbox, count)
            copies = Counter(recipient for recipient, _ in relay.stamps())
        return {"msg/s": count / elapsed_s, _DOUBLE: sum(n - 1 for n in copies.values())}

    name = f"{workers} worker{'s' if workers > 1 else ''}"
    return Contender(name=name, run=run, is_ours=True)
