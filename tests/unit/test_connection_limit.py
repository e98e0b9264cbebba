"""How many connections a relay accepts, and how a worker finds out that it accepts more again."""

from __future__ import annotations

import pytest

from postroom.relays.discovered_limits import ConnectionLimit
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> ConnectionLimit:
    return ConnectionLimit(8, clock=clock)


def test_until_one_is_refused_the_url_decides(limit: ConnectionLimit, clock: Clock) -> None:
    limit.accepted(3)
    clock.now = 10_000
    assert limit.current() == 8


def test_a_refusal_leaves_as_many_as_are_open(limit: ConnectionLimit) -> None:
    limit.refused(3)
    assert limit.current() == 3


def test_one_is_always_left(limit: ConnectionLimit) -> None:
    limit.refused(0)
    assert limit.current() == 1


def test_a_connection_that_was_accepted_after_all_counts(limit: ConnectionLimit) -> None:
    limit.refused(1)
    limit.accepted(2)
    assert limit.current() == 2


def test_after_a_minute_one_more_is_tried(limit: ConnectionLimit, clock: Clock) -> None:
    limit.refused(3)
    clock.now = 59
    assert limit.current() == 3
    clock.now = 60
    assert [limit.current(), limit.current()] == [4, 4]


def test_each_refusal_doubles_the_wait_up_to_ten_minutes(
    limit: ConnectionLimit, clock: Clock
) -> None:
    limit.refused(3)
    waits = []
    for _ in range(6):
        since = clock.now
        while limit.current() == 3:
            clock.now += 10
        waits.append(clock.now - since)
        limit.refused(3)
    assert waits == [60, 120, 240, 480, 600, 600]


def test_when_one_more_is_accepted_the_next_is_tried_soon(
    limit: ConnectionLimit, clock: Clock
) -> None:
    limit.refused(3)
    for _ in range(5):
        clock.now += 60
        limit.accepted(limit.current())
    assert limit.current() == 8


def test_several_refused_at_once_are_one_refusal(limit: ConnectionLimit, clock: Clock) -> None:
    for _ in range(5):
        limit.refused(3)
    clock.now = 60
    assert limit.current() == 4


def test_a_relay_that_was_down_gets_all_of_them_again(limit: ConnectionLimit) -> None:
    limit.refused(1)
    limit.reset()
    assert limit.current() == 8
