"""Deadlines of a connected socket."""

from __future__ import annotations

import socket
import threading

import pytest

from postroom.smtp import stream
from postroom.smtp.stream import NetworkStream
from tests.clock import Clock
from tests.services.waiting import wait_for


def test_a_machine_that_was_suspended_ends_a_wait_that_is_over_by_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "_MAX_WAIT_S", 0.01)
    clock = Clock()
    ended: list[BaseException] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        line = NetworkStream(ours, clock=clock)

        def read() -> None:
            try:
                line.read(deadline=300.0)
            except TimeoutError as error:
                ended.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        reader.join(0.05)
        assert reader.is_alive()
        clock.now += 300.0
        wait_for(lambda: ended, "the wait to end")
        reader.join()
