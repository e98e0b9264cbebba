"""Peers as contenders of a bench, beside the servers they are lent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

from bench.harness import letters, limit
from bench.harness.contest import Contender, Figures
from bench.harness.databases import Servers
from bench.harness.options import Options
from bench.peers import postfix
from bench.peers.catalogue import PEERS
from bench.peers.peer import Peer


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What every peer is asked: ``count`` mails over ``connections``, to ``relay``'s port."""

    count: int
    connections: int = 10
    is_each_different: bool = False
    relay: Callable[[], AbstractContextManager[int]] = limit.sink


def contenders(options: Options, servers: Servers, terms: Terms) -> Iterator[Contender]:
    """Yield a contender for each peer that is wanted."""
    for peer in PEERS:
        if options.wants(peer.name):
            yield contender(peer, servers, terms)
    if options.wants("postfix"):
        yield postfix.contender(terms.count)


_MAIL: dict[str, Any] = {
    "sender": letters.SENDER,
    "subject": letters.SUBJECT,
    "text": letters.TEXT,
    "html": letters.HTML,
}


def contender(peer: Peer, servers: Servers, terms: Terms, name: str = "") -> Contender:
    """Return a peer as a contender, under ``name`` where it runs in several forms."""

    def run() -> Figures:
        peer.install()
        with ExitStack() as stack:
            asked = _MAIL | {
                "port": stack.enter_context(terms.relay()),
                "count": terms.count,
                "connections": terms.connections,
                "is_each_different": terms.is_each_different,
            }
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
            return _figures(peer, terms.count, peer.run(asked))

    return Contender(name=name or peer.name, run=run, note=peer.note)


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
