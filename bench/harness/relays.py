"""Relays of the bench's own: one that is far away, one that notes when it accepted what."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.harness.child import Child


@contextmanager
def far_away(port: int, round_trip_s: float) -> Iterator[int]:
    """Yield the port of a proxy to ``port`` through which a round trip takes this long."""
    child = Child("bench.harness.delay_process", {"port": port, "delay_s": round_trip_s / 2})
    try:
        yield child.hear()["port"]
    finally:
        child.kill()


def round_trip_s(port: int, times: int = 20) -> float:
    """Return the median time of an SMTP NOOP."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.recv(1024)
        taken = []
        for _ in range(times):
            started = time.monotonic()
            connection.sendall(b"NOOP\r\n")
            connection.recv(1024)
            taken.append(time.monotonic() - started)
        return statistics.median(taken)


class Relay:
    """Accepts everything ``delay_s`` after the final dot, and notes when and for whom."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self._child = Child("bench.harness.relay_process", {"delay_s": delay_s})
        self.port: int = self._child.hear()["port"]

    def stamps(self) -> list[tuple[str, float]]:
        """Return who was accepted and when (``time.monotonic``), in order."""
        self._child.say("stamps")
        return [(recipient, at) for recipient, at in self._child.hear()["stamps"]]

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *exception: object) -> None:
        self._child.kill()
