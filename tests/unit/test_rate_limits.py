"""No more than a relay allows, in any window of time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.relays.options import Rate
from postroom.relays.rate_limits import PerDomainLimiter, SlidingWindowLimiter
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_as_many_as_the_rate_says_go_at_once_and_then_none(clock: Clock) -> None:
    limiter = SlidingWindowLimiter(Rate.parse("3/s"), clock=clock)
    assert [limiter.try_acquire() for _ in range(5)] == [True, True, True, False, False]
    assert limiter.retry_after_s() == 1
    clock.now = 0.25
    assert limiter.retry_after_s() == 0.75
    clock.now = 1
    assert limiter.retry_after_s() == 0
    assert limiter.try_acquire()


def test_looking_takes_nothing(clock: Clock) -> None:
    limiter = SlidingWindowLimiter(Rate.parse("1/m"), clock=clock)
    assert [limiter.retry_after_s() for _ in range(3)] == [0, 0, 0]
    assert limiter.try_acquire()


@given(
    st.integers(1, 5),
    st.lists(st.floats(0, 2, allow_nan=False), max_size=60),
)
def test_no_window_holds_more_than_the_rate(count: int, waits: list[float]) -> None:
    clock = Clock()
    limiter = SlidingWindowLimiter(Rate(count=count, period_s=1), clock=clock)
    taken = []
    for wait in waits:
        clock.now += wait
        if limiter.try_acquire():
            taken.append(clock.now)
    for start in taken:
        assert sum(start <= at < start + 1 for at in taken) <= count


@given(st.integers(1, 5), st.integers(1, 40))
def test_whoever_waits_as_told_loses_no_time(count: int, mails: int) -> None:
    clock = Clock()
    limiter = SlidingWindowLimiter(Rate(count=count, period_s=1), clock=clock)
    for _ in range(mails):
        clock.now += limiter.retry_after_s()
        assert limiter.try_acquire()
    assert clock.now == (mails - 1) // count


def test_threads_share_a_rate(clock: Clock) -> None:
    limiter = SlidingWindowLimiter(Rate.parse("10/s"), clock=clock)
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda _: limiter.try_acquire(), range(100))) == 10


def test_domains_are_limited_each_on_its_own(clock: Clock) -> None:
    domains = PerDomainLimiter(lambda _: SlidingWindowLimiter(Rate.parse("1/s"), clock=clock))
    assert domains.for_domain("example.com").try_acquire()
    assert not domains.for_domain("EXAMPLE.com").try_acquire()
    assert domains.for_domain("example.net").try_acquire()


def test_a_domain_longest_unused_is_forgotten_and_not_another(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroom.relays.rate_limits._MAX_DOMAINS", 2)
    domains = PerDomainLimiter(lambda _: SlidingWindowLimiter(Rate.parse("1/s"), clock=clock))
    for domain in ("a.example", "b.example", "a.example", "c.example"):
        domains.for_domain(domain).try_acquire()
    assert not domains.for_domain("a.example").try_acquire()
    assert domains.for_domain("b.example").try_acquire()
