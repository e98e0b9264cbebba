"""Celery's workers deliver, whatever becomes of the broker's messages."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.celery_shop import Broker, Shop, opened
from tests.services.rabbitmq import RabbitMQ
from tests.services.waiting import wait_for


@pytest.fixture(params=["sqlite"])
def shop(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    broker: Broker,
    tmp_path: Path,
) -> Iterator[Shop]:
    monkeypatch.chdir(tmp_path)
    url = request.getfixturevalue(f"{request.param}_url")
    with opened(monkeypatch, url, broker) as shop:
        yield shop


@pytest.fixture(params=["redis_server"])
def broker(request: pytest.FixtureRequest) -> Broker:
    server: Broker = request.getfixturevalue(request.param)
    return server


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMQ]:
    server = RabbitMQ()
    yield server
    server.remove()


on_both = pytest.mark.parametrize("shop", ["sqlite", "postgresql"], indirect=True)
with_each_broker = pytest.mark.parametrize("broker", ["redis_server", "rabbitmq"], indirect=True)
#: Every database and every broker: they know nothing of each other.
on_both_with_each_broker = pytest.mark.parametrize(
    ("shop", "broker"), [("sqlite", "redis_server"), ("postgresql", "rabbitmq")], indirect=True
)


@pytest.mark.parametrize(
    ("pool", "broker"),
    [
        ("solo", "redis_server"),
        ("threads", "redis_server"),
        ("prefork", "redis_server"),
        ("prefork", "rabbitmq"),
    ],
    indirect=["broker"],
)
def test_a_commit_is_all_it_takes(shop: Shop, pool: str) -> None:
    with shop.workers(pool, 2):
        shop.order(3)
        shop.wait_until_all_arrived()
        shop.assert_each_came_once()


def test_a_process_goes_on_with_the_connection_it_has(shop: Shop) -> None:
    shop.set(postroom_relay=f"{shop.relay.url}&connections=1&idle=60s")
    with shop.workers("prefork"):
        for _ in range(5):
            shop.order()
            shop.wait_until_all_arrived()
            wait_for(shop.is_done, "the outcome")
        assert shop.relay.connections == 1
    assert shop.relay.connections == 1


def test_a_budget_that_is_used_up_is_given_again(shop: Shop) -> None:
    shop.set(shop_budget_s="0.5", postroom_relay=f"{shop.relay.url}&connections=1&rate=20/s")
    with shop.workers("solo"):
        shop.order(30)  # twenty at once, the others a second later
        shop.wait_until_all_arrived()
        shop.assert_each_came_once()


@on_both_with_each_broker
def test_messages_that_come_time_and_again_send_nothing_twice(shop: Shop) -> None:
    with shop.workers("prefork", 3):
        shop.order(40)
        shop.send_tasks(30)
        shop.order(40)
        shop.send_tasks(30)
        shop.wait_until_all_arrived()
        shop.assert_each_came_once()


@on_both_with_each_broker
def test_a_broker_that_forgets_everything_costs_no_mail(shop: Shop) -> None:
    shop.set(shop_sweep_s="1")
    with shop.workers("prefork", 2, beat=True):
        for _ in range(10):
            shop.order(10)
            shop.broker.flush()
        shop.wait_until_all_arrived()
        shop.assert_each_came_once()


@pytest.mark.slow
@pytest.mark.timeout(240)
@with_each_broker
def test_a_broker_that_is_away_for_a_while_costs_no_mail(shop: Shop) -> None:
    shop.set(shop_sweep_s="1", postroom_lease_s="10")
    with shop.workers("prefork", 2, beat=True):
        shop.order(10)
        shop.broker.stop()
        try:
            shop.order(10)
        finally:
            shop.broker.start()
        shop.order(10)

        def have_all_arrived() -> bool:
            shop.supervise()
            return set(shop.copies()) == set(shop.addresses)

        wait_for(have_all_arrived, "all mail", 120)  # Celery connects again at its own pace
        shop.assert_each_came_once()


@pytest.mark.slow
@on_both
def test_a_child_that_is_killed_loses_nothing(shop: Shop) -> None:
    shop.set(
        shop_sweep_s="1",
        postroom_lease_s="1",
        postroom_max_uncommitted="10",
        postroom_relay=f"{shop.relay.url}&connections=2&rate=60/s",
    )
    victims = 0
    with shop.workers("prefork", 2, beat=True):
        shop.order(200)
        for arrived in (20, 50, 80):
            shop.relay.wait_for(arrived, timeout_s=60)
            for pid in wait_for(shop.at_work, "somebody at work"):
                os.kill(pid, signal.SIGKILL)
                victims += 1
        shop.wait_until_all_arrived()
        wait_for(shop.is_done, "all outcomes to be recorded", 60)
    assert shop.copies().total() <= 200 + victims * (2 + 10)


def test_a_worker_that_is_stopped_returns_what_it_has_claimed(shop: Shop) -> None:
    shop.set(shop_budget_s="60", postroom_relay=f"{shop.relay.url}&connections=1&rate=20/s")
    with shop.workers("solo") as worker:
        shop.order(300)
        shop.relay.wait_for(5, timeout_s=60)
        worker.stop(timeout_s=15)
    assert shop.leased() == 0
