"""Peers as contenders of a bench, beside the servers they are lent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from bench.harness import letters, limit
from bench.harness.contest import Contender, Figures
from bench.harness.databases import Servers
from bench.harness.options import Options
from bench.peers.peer import Peer


def contenders(
    peers: Iterable[Peer], options: Options, servers: Servers, order: dict[str, Any]
) -> Iterator[Contender]:
    """Yield a contender for each peer that is wanted."""
    for peer in peers:
        if options.wants(peer.name):
            yield _contender(peer, servers, {**_MAIL, **order})


_MAIL: dict[str, Any] = {
    "sender": letters.SENDER,
    "subject": letters.SUBJECT,
    "text": letters.TEXT,
    "html": letters.HTML,
    "connections": 10,
}


def _contender(peer: Peer, servers: Servers, order: dict[str, Any]) -> Contender:
    def run() -> Figures:
        peer.install()
        with ExitStack() as stack:
            asked = order | {"port": stack.enter_context(limit.sink())}
            if "postgresql" in peer.needs:
                url = stack.enter_context(servers.postgresql())
                asked["postgresql"] = {
                    "host": url.host,
                    "port": str(url.port),
                    "user": url.username,
                    "password": url.password,
                    "name": url.database,
                }
            if "redis" in peer.needs:
                asked["redis"] = servers.redis()
            return _figures(peer, order["count"], peer.run(asked))

    return Contender(name=peer.name, run=run, note=peer.note)


def _figures(peer: Peer, count: int, measured: dict[str, float]) -> Figures:
    """Return what a run measured, as ours are told."""
    delivered_s = measured["deliver_s"]
    figures = {"msg/s": count / delivered_s}
    if peer.is_durable:
        if measured["recorded"] != count:
            raise RuntimeError(f"{peer.name} recorded {measured['recorded']} of {count} mails")
        figures["whole msg/s"] = count / (measured["enqueue_s"] + delivered_s)
        figures["enqueue/s"] = count / measured["enqueue_s"]
    return figures
