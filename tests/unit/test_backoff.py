"""Pauses after failures."""

from __future__ import annotations

from postroom.backoff import Backoff, SharedBackoff
from tests.clock import Clock

TENFOLD = Backoff(first_s=5, longest_s=50)


def test_each_further_failure_doubles_the_pause_up_to_the_longest() -> None:
    assert [TENFOLD.pause_s(failures) for failures in range(1, 7)] == [5, 10, 20, 40, 50, 50]


def test_the_pause_grows_by_its_factor() -> None:
    tripled = Backoff(first_s=1, longest_s=20, factor=3)
    assert [tripled.pause_s(failures) for failures in range(1, 6)] == [1, 3, 9, 20, 20]


def test_no_failure_costs_no_pause() -> None:
    assert TENFOLD.pause_s(0) == 0


def test_thousands_of_failures_wait_the_longest_pause() -> None:
    assert TENFOLD.pause_s(10_000) == 50


def test_many_failures_at_one_time_cost_one_pause() -> None:
    shared = SharedBackoff(TENFOLD, clock=Clock())
    assert {shared.failed() for _ in range(2_000)} == {5}


def test_the_pause_doubles_only_where_it_fails_again_afterwards() -> None:
    clock = Clock()
    shared = SharedBackoff(TENFOLD, clock=clock)
    pauses = []
    for _ in range(6):
        pauses.append(shared.failed())
        clock.now += pauses[-1]
    assert pauses == [5, 10, 20, 40, 50, 50]


def test_a_success_begins_anew() -> None:
    clock = Clock()
    shared = SharedBackoff(TENFOLD, clock=clock)
    clock.now += shared.failed()
    assert shared.failed() == 10
    shared.succeeded()
    assert shared.failed() == 5
