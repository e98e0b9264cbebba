"""Rates and breakers that several workers share through Redis, and what happens without it."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from postroom import Message, Outbox
from postroom.errors import ConfigError
from postroom.relays.circuit_breaker import CircuitBreakerConfig
from postroom.relays.options import Rate
from postroom.relays.pool import ConnectionPool
from postroom.relays.redis_shared import RedisCircuitBreaker, RedisRateLimiter
from postroom.relays.redis_store import RedisStore
from postroom.relays.relay import Relay
from postroom.states import Fault
from postroom.testing import FaultyRelay
from tests.clock import Clock
from tests.services.redis import Redis
from tests.services.waiting import free_port, wait_for


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def url(redis_server: Redis) -> str:
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def stores(url: str, clock: Clock) -> Iterator[list[RedisStore]]:
    """The stores of two processes with one Redis."""
    stores = [RedisStore(url, clock=clock) for _ in range(2)]
    yield stores
    for store in stores:
        store.close()


@pytest.fixture
def breakers(stores: list[RedisStore], clock: Clock) -> list[RedisCircuitBreaker]:
    """Two processes' breakers for one relay."""
    config = CircuitBreakerConfig(failure_threshold=3, reset_timeout_s=0.2, probe_timeout_s=30)
    return [RedisCircuitBreaker("relay", store, clock=clock, config=config) for store in stores]


def limiters(stores: list[RedisStore], clock: Clock, rate: str) -> list[RedisRateLimiter]:
    return [RedisRateLimiter(Rate.parse(rate), "relay", store, clock=clock) for store in stores]


def fail(breaker: RedisCircuitBreaker, times: int = 3) -> None:
    for _ in range(times):
        breaker.record(Fault.RELAY)


def let_the_pause_end(url: str, clock: Clock) -> None:
    with redis.Redis.from_url(url) as client:
        wait_for(lambda: not client.exists("postroom:breaker:relay:paused"), "the pause to end")
    clock.now += 5


def test_workers_share_a_rate(stores: list[RedisStore], clock: Clock) -> None:
    one, other = limiters(stores, clock, "5/h")
    assert [
        one.try_acquire(),
        other.try_acquire(),
        one.try_acquire(),
        other.try_acquire(),
        one.try_acquire(),
    ] == [True] * 5
    assert not one.try_acquire()
    assert not other.try_acquire()
    assert 3000 < one.retry_after_s() <= 3600


def test_a_window_that_is_over_allows_as_many_again(stores: list[RedisStore], clock: Clock) -> None:
    one, other = limiters(stores, clock, "3/s")
    #: Between which two moments each mail was counted.
    taken: list[tuple[float, float]] = []

    def take() -> bool:
        for limiter in (one, other):
            before = clock.now = time.monotonic()
            if limiter.try_acquire():
                taken.append((before, time.monotonic()))
        return len(taken) >= 9

    wait_for(take, "nine mails")
    for (earliest, _), (_, latest) in zip(taken, taken[3:], strict=False):
        assert latest - earliest > 0.95


def test_rates_of_different_relays_and_domains_are_counted_apart(
    stores: list[RedisStore], clock: Clock
) -> None:
    relay = Relay.parse("smtp://user:secret@one.example.com?rate=2/h&domain_rate=1/h")
    one = ConnectionPool(clock=clock, store=stores[0])
    other = ConnectionPool(clock=clock, store=stores[1])
    assert one.throttle(relay).try_acquire([])
    assert other.throttle(Relay.parse("smtp://two.example.com?rate=1/h")).try_acquire([])
    assert other.throttle(relay).try_acquire([])
    assert not one.throttle(relay).try_acquire([])


def test_what_one_worker_meets_pauses_the_relay_for_all(
    breakers: list[RedisCircuitBreaker], clock: Clock
) -> None:
    one, other = breakers
    assert other.allow_request()
    fail(one)
    clock.now += 1.1
    assert other.retry_after_s() > 0
    assert not other.allow_request()


def test_after_the_pause_one_of_all_workers_probes(
    breakers: list[RedisCircuitBreaker], url: str, clock: Clock
) -> None:
    one, other = breakers
    fail(one)
    let_the_pause_end(url, clock)
    assert [one.allow_request(), one.allow_request(), other.allow_request()] == [True, False, False]


def test_a_probe_that_works_lets_all_workers_use_the_relay(
    breakers: list[RedisCircuitBreaker], url: str, clock: Clock
) -> None:
    one, other = breakers
    fail(one)
    fail(other)
    let_the_pause_end(url, clock)
    assert other.allow_request()
    other.record(None)
    clock.now += 1.1
    assert one.retry_after_s() == 0
    assert one.allow_request()
    assert other.allow_request()
    assert not one.is_open


def test_a_probe_that_fails_makes_the_next_pause_longer(
    breakers: list[RedisCircuitBreaker], url: str, clock: Clock
) -> None:
    one, other = breakers
    fail(one)
    let_the_pause_end(url, clock)
    assert other.allow_request()
    fail(other, 1)
    with redis.Redis.from_url(url) as client:
        assert 200 < client.pttl("postroom:breaker:relay:paused") <= 400
        assert client.get("postroom:breaker:relay:opened") == b"2"


def test_a_refused_mail_is_not_shared(breakers: list[RedisCircuitBreaker], url: str) -> None:
    for _ in range(10):
        breakers[0].record(Fault.RECIPIENT)
    with redis.Redis.from_url(url) as client:
        assert client.keys("postroom:breaker:*") == []


def test_without_redis_each_process_keeps_the_rate_and_says_so_once(
    redis_server: Redis,
    stores: list[RedisStore],
    breakers: list[RedisCircuitBreaker],
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "postroom.worker")
    one, other = limiters(stores, clock, "4/h")
    assert one.try_acquire()
    redis_server.stop()
    try:
        assert [one.try_acquire() for _ in range(4)] == [True, True, True, False]
        fail(breakers[0])
        assert not breakers[0].allow_request()
        clock.now += 10
        assert breakers[0].allow_request()  # its own probe
        assert len([one for one in caplog.records if one.levelno == logging.WARNING]) == 1
    finally:
        redis_server.start()
    clock.now += 10
    assert [other.try_acquire() for _ in range(5)] == [True] * 4 + [False]
    clock.now += 10
    breakers[0].retry_after_s()
    assert "Redis answers again" in caplog.text


def test_a_redis_that_is_silent_holds_delivery_up_once_and_not_for_long(clock: Clock) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        store = RedisStore(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", clock=clock)
        (limiter,) = limiters([store], clock, "1000/s")
        began = time.monotonic()
        assert all(limiter.try_acquire() for _ in range(100))
        assert time.monotonic() - began < 2
        store.close()


def test_a_wrong_url_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match="redis://host:6379/0") as refused:
        RedisStore("http://user:secret@host")
    assert "secret" not in str(refused.value)


def test_nothing_is_connected_before_it_is_needed() -> None:
    RedisStore(f"redis://127.0.0.1:{free_port()}/0").close()


@pytest.mark.parametrize("is_shared", [True, False])
def test_two_processes_send_no_more_than_the_rate_where_they_share_it(
    engine: Engine, relay: FaultyRelay, url: str, is_shared: bool
) -> None:
    outboxes = [
        Outbox(
            f"{relay.url}&rate=10/h",
            engine=engine,
            sender="shop@example.com",
            redis=url if is_shared else None,
        )
        for _ in range(2)
    ]
    with Session(engine) as session, session.begin():
        everybody = [f"reader-{number}@example.com" for number in range(40)]
        outboxes[0].enqueue(session, Message(text="x"), to=everybody)
    for outbox in outboxes:
        outbox.worker().drain()
        outbox.close()
    # What is put off is due much later: the second finds what the first did not claim.
    assert len(relay.accepted) <= (10 if is_shared else 20)
    assert len(relay.accepted) >= 10


def test_while_one_conversation_asks_redis_the_others_go_on(
    engine: Engine, relay: FaultyRelay, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(4, timeout=30)
    hit = RedisStore._hit

    def slow(store: RedisStore, item: Any, name: str) -> float:
        together.wait()  # four ask at the same time, or none gets an answer
        return hit(store, item, name)

    monkeypatch.setattr(RedisStore, "_hit", slow)
    outbox = Outbox(
        f"{relay.url}&rate=1000/h&connections=4",
        engine=engine,
        sender="shop@example.com",
        redis=url,
    )
    with Session(engine) as session, session.begin():
        everybody = [f"reader-{number}@example.com" for number in range(4)]
        outbox.enqueue(session, Message(text="x"), to=everybody)
    assert outbox.worker().drain(budget_s=60)
    outbox.close()
    assert not together.broken
    assert len(relay.accepted) == 4


def test_delivery_goes_on_without_redis(engine: Engine, relay: FaultyRelay) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    outbox = Outbox(
        f"{relay.url}&rate=100/s", engine=engine, sender="shop@example.com", redis=nowhere
    )
    with Session(engine) as session, session.begin():
        outbox.enqueue(session, Message(text="x"), to=["ada@example.com"])
    assert outbox.worker().drain(budget_s=60)
    outbox.close()
    assert len(relay.accepted) == 1
