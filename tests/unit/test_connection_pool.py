"""What a process keeps of its relays between one worker and the next."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.relays.pool import ConnectionPool
from postroom.relays.relay import Relay
from postroom.states import Fault

RELAY = Relay.parse("smtp://relay.example.com?tls=off&rate=1/h&idle=5s")
OTHER = Relay.parse("smtp://other.example.com?tls=off&idle=5s")


class Connection:
    def __init__(self) -> None:
        self.is_usable = True
        self.has_quit = False

    def quit(self) -> None:
        self.has_quit = True


@pytest.fixture
def lines() -> Any:
    made: Any = ConnectionPool(connect=lambda relay: Connection())  # type: ignore[arg-type,return-value]
    yield made
    made.close()


def test_a_connection_that_was_kept_is_used_again_for_the_same_relay_only(lines: Any) -> None:
    first = lines.acquire(RELAY)
    lines.release(RELAY, first)
    assert lines.acquire(OTHER) is not first
    assert lines.acquire(RELAY) is first
    assert lines.acquire(RELAY) is not first


def test_a_connection_that_went_bad_meanwhile_is_left(lines: Any) -> None:
    first = lines.acquire(RELAY)
    lines.release(RELAY, first)
    first.is_usable = False
    assert lines.acquire(RELAY) is not first
    assert first.has_quit


def test_a_connection_of_no_use_is_not_kept(lines: Any) -> None:
    first = lines.acquire(RELAY)
    first.is_usable = False
    lines.release(RELAY, first)
    assert first.has_quit


def test_connections_that_nobody_came_back_for_are_ended(lines: Any) -> None:
    stale, fresh = Connection(), Connection()
    lines.release(RELAY, stale)
    lines.release(RELAY, fresh)
    stale.is_usable = False
    lines._close_stale(5)
    assert (stale.has_quit, fresh.has_quit) == (True, False)
    assert lines.acquire(RELAY) is fresh


def test_closing_takes_leave_of_everybody(lines: Any) -> None:
    kept = [Connection(), Connection()]
    for relay, one in zip((RELAY, OTHER), kept, strict=True):
        lines.release(relay, one)
    lines.close()
    assert all(one.has_quit for one in kept)


def test_breakers_and_rates_are_remembered(lines: Any) -> None:
    for _ in range(3):
        lines.breaker(RELAY).record(Fault.RELAY)
    assert lines.breaker(RELAY).is_open
    assert not lines.breaker(OTHER).is_open
    assert lines.throttle(RELAY).try_acquire([])
    assert not lines.throttle(RELAY).try_acquire([])
