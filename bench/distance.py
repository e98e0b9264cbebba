"""``distance``: a relay that is 20 ms away, over one connection and over five."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.harness import letters, limit, ours, verdicts
from bench.harness.contest import Contender, Series, hold
from bench.harness.databases import Servers, sqlite
from bench.harness.options import Options
from bench.harness.relays import far_away, round_trip_s
from bench.harness.report import Bar, Report
from bench.peers.catalogue import BY_NAME
from bench.peers.contenders import Terms, contender

NAME = "distance"

_ROUND_TRIP_S = 0.020
_CONNECTIONS = (1, 5)

_EXPLANATION = """\
One message to many recipients, through a proxy of the bench's own that delays every byte by 10 ms
in both directions. A mail costs one round trip at the least, so that one connection can carry 50
mails a second. The time includes connecting."""


def run(options: Options) -> Report:
    """Measure ours beside nodemailer's pool, at the same numbers of connections."""
    each = options.size(full=400, short=100)
    with Servers() as servers:
        pairs = [pair for n in _CONNECTIONS for pair in _pair(n, each, servers, options)]
        series = hold(pairs, options.rounds)
    return Report(
        name=NAME,
        title="a relay that is far away",
        explanation=_EXPLANATION,
        headline="msg/s",
        parameters={
            "mails a connection": each,
            "round trip, measured": f"{_measured_ms():.1f} ms",
            "rounds": options.rounds,
        },
        series=series,
        bars=[bar for n in _CONNECTIONS for bar in _bars(series, n)],
    )


def _pair(connections: int, each: int, servers: Servers, options: Options) -> Iterator[Contender]:
    count = connections * each
    job = ours.Job(
        count=count,
        enqueue=ours.enqueue_one(letters.message(), letters.addresses(count)),
        connections=connections,
        relay=_far_sink,
    )
    yield ours.contender(_named("Postroom", connections), sqlite, job, note="on SQLite")
    if options.wants("nodemailer"):
        terms = Terms(count=count, connections=connections, relay=_far_sink)
        name = _named("nodemailer", connections)
        yield contender(BY_NAME["nodemailer"], servers, terms, name)


def _bars(series: list[Series], connections: int) -> Iterator[Bar]:
    name = _named("Postroom", connections)
    own = next(one for one in series if one.name == name)
    yield Bar(what=f"{name}: msg/s a connection", value=own.median("msg/s") / connections, least=45)
    yield from verdicts.beside(series, [name], _named("nodemailer", connections), least=2)


def _named(name: str, connections: int) -> str:
    return f"{name}, {connections} connection{'s' if connections > 1 else ''}"


@contextmanager
def _far_sink() -> Iterator[int]:
    with limit.sink() as port, far_away(port, _ROUND_TRIP_S) as far_port:
        yield far_port


def _measured_ms() -> float:
    with _far_sink() as port:
        return round_trip_s(port) * 1000
