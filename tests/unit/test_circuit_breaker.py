"""A relay that fails is left alone for a while."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from postroom.relays.circuit_breaker import CircuitBreaker, CircuitBreakerConfig
from postroom.states import Fault
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    config = CircuitBreakerConfig(
        failure_threshold=3,
        reset_timeout_s=10,
        backoff_factor=2,
        max_reset_timeout_s=35,
        probe_timeout_s=60,
    )
    return CircuitBreaker(clock=clock, config=config)


def fail(breaker: CircuitBreaker, times: int = 3, fault: Fault = Fault.RELAY) -> None:
    for _ in range(times):
        breaker.record(fault)


@pytest.mark.parametrize("fault", [Fault.RELAY, Fault.CREDENTIALS])
def test_it_opens_after_faults_in_a_row(breaker: CircuitBreaker, fault: Fault) -> None:
    fail(breaker, 2, fault)
    assert breaker.allow_request()
    fail(breaker, 1, fault)
    assert not breaker.allow_request()
    assert breaker.is_open


@pytest.mark.parametrize("fault", [Fault.RECIPIENT, Fault.MESSAGE, Fault.OURSELVES])
def test_a_bad_address_or_message_never_opens_it(breaker: CircuitBreaker, fault: Fault) -> None:
    fail(breaker, 100, fault)
    assert breaker.allow_request()
    assert not breaker.is_open


@pytest.mark.parametrize("fault", [None, Fault.RECIPIENT, Fault.MESSAGE])
def test_whatever_shows_that_the_relay_works_starts_the_count_anew(
    breaker: CircuitBreaker, fault: Fault | None
) -> None:
    fail(breaker, 2)
    breaker.record(fault)
    fail(breaker, 2)
    assert breaker.allow_request()


def test_after_its_timeout_one_probe_is_let_through(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker)
    assert breaker.retry_after_s() == 10
    clock.now += 9.9
    assert not breaker.allow_request()
    clock.now += 0.1
    assert breaker.allow_request()
    assert not breaker.allow_request()


def test_a_probe_that_works_closes_it(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += 10
    assert breaker.allow_request()
    breaker.record(None)
    assert breaker.allow_request()
    assert breaker.allow_request()
    assert breaker.retry_after_s() == 0


def test_a_probe_that_fails_makes_the_next_timeout_longer_up_to_a_limit(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    fail(breaker)
    timeouts = []
    for _ in range(4):
        timeouts.append(breaker.retry_after_s())
        clock.now += breaker.retry_after_s()
        assert breaker.allow_request()
        breaker.record(Fault.RELAY)
    assert timeouts == [10, 20, 35, 35]


def test_success_forgets_how_often_it_had_opened(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += 10
    assert breaker.allow_request()
    breaker.record(Fault.RELAY)
    clock.now += 20
    assert breaker.allow_request()
    breaker.record(None)
    fail(breaker)
    assert breaker.retry_after_s() == 10


def test_senders_that_fail_together_open_it_once(breaker: CircuitBreaker) -> None:
    fail(breaker, 10)
    assert breaker.retry_after_s() == 10


def test_a_probe_nobody_reports_on_does_not_close_the_way_forever(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    fail(breaker)
    clock.now += 10
    assert breaker.allow_request()
    clock.now += 59
    assert not breaker.allow_request()
    clock.now += 1
    assert breaker.allow_request()


def test_while_a_probe_is_under_way_it_is_worth_asking_again_soon(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    fail(breaker)
    clock.now += 10
    assert breaker.allow_request()
    assert breaker.retry_after_s() == 10


def test_of_many_threads_one_is_the_probe(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker)
    clock.now += 10
    with ThreadPoolExecutor(8) as threads:
        let_through = list(threads.map(lambda _: breaker.allow_request(), range(64)))
    assert let_through.count(True) == 1
