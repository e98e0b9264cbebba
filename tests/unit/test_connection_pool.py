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
def pool() -> Any:
    made: Any = ConnectionPool(connect=lambda relay: Connection())  # type: ignore[arg-type,return-value]
    yield made
    made.close()


def test_a_connection_that_was_kept_is_used_again_for_the_same_relay_only(pool: Any) -> None:
    first = pool.acquire(RELAY)
    pool.release(RELAY, first)
    assert pool.acquire(OTHER) is not first
    assert pool.acquire(RELAY) is first
    assert pool.acquire(RELAY) is not first


def test_a_connection_that_went_bad_meanwhile_is_left(pool: Any) -> None:
    first = pool.acquire(RELAY)
    pool.release(RELAY, first)
    first.is_usable = False
    assert pool.acquire(RELAY) is not first
    assert first.has_quit


def test_a_connection_of_no_use_is_not_kept(pool: Any) -> None:
    first = pool.acquire(RELAY)
    first.is_usable = False
    pool.release(RELAY, first)
    assert first.has_quit


def test_connections_that_nobody_came_back_for_are_ended(pool: Any) -> None:
    stale, fresh = Connection(), Connection()
    pool.release(RELAY, stale)
    pool.release(RELAY, fresh)
    stale.is_usable = False
    pool._close_stale(5)
    assert (stale.has_quit, fresh.has_quit) == (True, False)
    assert pool.acquire(RELAY) is fresh


def test_closing_takes_leave_of_everybody(pool: Any) -> None:
    kept = [Connection(), Connection()]
    for relay, one in zip((RELAY, OTHER), kept, strict=True):
        pool.release(relay, one)
    pool.close()
    assert all(one.has_quit for one in kept)


def test_breakers_and_rates_are_remembered(pool: Any) -> None:
    for _ in range(3):
        pool.breaker(RELAY).record(Fault.RELAY)
    assert pool.breaker(RELAY).is_open
    assert not pool.breaker(OTHER).is_open
    assert pool.throttle(RELAY).try_acquire([])
    assert not pool.throttle(RELAY).try_acquire([])
