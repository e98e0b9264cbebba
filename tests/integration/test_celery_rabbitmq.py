"""Celery with RabbitMQ in Redis's place: the broker carries hints, and the database decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.integration.celery_shop import Shop, opened
from tests.services.rabbitmq import RabbitMQ


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMQ]:
    server = RabbitMQ()
    yield server
    server.remove()


@pytest.fixture
def shop(
    monkeypatch: pytest.MonkeyPatch, rabbitmq: RabbitMQ, postgresql_url: URL, tmp_path: Path
) -> Iterator[Shop]:
    monkeypatch.chdir(tmp_path)
    with opened(monkeypatch, postgresql_url, rabbitmq) as shop:
        yield shop


def test_a_commit_is_all_it_takes(shop: Shop) -> None:
    with shop.workers("prefork", 2):
        shop.order(3)
        shop.wait_until_all_arrived()
        shop.assert_each_came_once()


def test_messages_that_come_time_and_again_send_nothing_twice(shop: Shop) -> None:
    with shop.workers("prefork", 3):
        shop.order(40)
        shop.send_tasks(30)
        shop.order(40)
        shop.send_tasks(30)
        shop.wait_until_all_arrived()
        shop.assert_each_came_once()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_broker_that_loses_its_messages_and_goes_away_costs_no_mail(shop: Shop) -> None:
    shop.set(shop_sweep_s="1", postroom_lease_s="10")
    with shop.workers("prefork", 2, beat=True):
        for _ in range(5):
            shop.order(10)
            shop.broker.flush()
        shop.broker.restart()
        shop.order(10)
        shop.wait_until_all_arrived(120)  # Celery connects again at its own pace
        shop.assert_each_came_once()
