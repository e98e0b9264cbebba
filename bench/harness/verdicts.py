"""Our figures divided by others', against what they should reach."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bench.harness.contest import Series, ratio
from bench.harness.report import Bar
from bench.peers import postfix
from bench.peers.catalogue import PEERS

HEADLINE = "msg/s"

_DURABLE = {peer.name for peer in PEERS if peer.is_durable} | {postfix.NAME}


def beside(
    series: Sequence[Series], ours: Iterable[str], other: str, *, least: float
) -> Iterator[Bar]:
    """Yield how each of ``ours`` compares with ``other``, for what has run."""
    ran = {one.name: one for one in series if one.runs}
    for name in ours:
        if name in ran and other in ran:
            value = ratio(ran[name], ran[other], HEADLINE)
            yield Bar(what=f"{name} / {other}", value=value, least=least)


def beside_fastest_durable(
    series: Sequence[Series], ours: Iterable[str], *, least: float
) -> Iterator[Bar]:
    """Yield how each of ``ours`` compares with the fastest peer that stores what it sends."""
    durable = [one for one in series if one.runs and one.name in _DURABLE]
    if durable:
        fastest = max(durable, key=lambda one: one.median(HEADLINE))
        yield from beside(series, ours, fastest.name, least=least)
