"""What an application sends to Celery's broker, and what it costs where there is none."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Iterator

import pytest
import redis
from celery import Celery
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.orm import Session

from postroom import Message, Outbox
from postroom.integrations.celery import TASK, setup
from postroom.storage import schema
from tests.services.redis import Redis
from tests.services.waiting import free_port, wait_for


@pytest.fixture
def database(sqlite_url: URL) -> Iterator[Engine]:
    engine = create_engine(sqlite_url)
    schema.create(engine)
    yield engine
    engine.dispose()


def shop(broker: str, **options: object) -> tuple[Celery, Outbox]:
    """Return an application; give it a queue of its own, as another test's wakeup may be late."""
    app = Celery("shop", broker=broker)
    outbox = Outbox(sender="shop@example.com")
    setup(app, outbox, **options)  # type: ignore[arg-type]
    return app, outbox


def order(outbox: Outbox, engine: Engine) -> float:
    """Enqueue and commit; return how long the commit took."""
    with Session(engine) as session:
        outbox.enqueue(session, Message(text="x"), to=["ada@example.com"])
        began = time.monotonic()
        session.commit()
        return time.monotonic() - began


def test_a_commit_sends_one_small_message_that_says_nothing_but_the_fact(
    redis_server: Redis, database: Engine
) -> None:
    _, outbox = shop(redis_server.url, queue="one")
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as broker:
        order(outbox, database)
        (message,) = wait_for(lambda: broker.lrange("one", 0, -1), "a message")
    assert json.loads(message)["headers"]["task"] == TASK
    assert json.loads(message)["headers"]["argsrepr"] == "()"
    assert "ada" not in message
    assert len(message) < 2000


def test_many_commits_send_few_messages(redis_server: Redis, database: Engine) -> None:
    _, outbox = shop(redis_server.url, queue="many")
    with redis.Redis.from_url(redis_server.url) as broker:
        began = time.monotonic()
        for _ in range(30):
            order(outbox, database)
        took_s = time.monotonic() - began
        wait_for(lambda: broker.llen("many"), "a message")
        assert broker.llen("many") <= 2 + took_s / 0.1


def test_without_hints_nothing_is_sent(redis_server: Redis, database: Engine) -> None:
    # A queue of its own: another test's last hint may still be on its way.
    app, outbox = shop(redis_server.url, queue="quiet", wakeups=False)
    with redis.Redis.from_url(redis_server.url) as broker:
        order(outbox, database)
        app.send_task(TASK, queue="quiet", ignore_result=True)
        assert broker.llen("quiet") == 1
    app.close()


@pytest.mark.parametrize("trouble", ["refuses", "is silent"])
def test_a_broker_that_is_down_neither_fails_nor_delays_a_commit(
    database: Engine, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = free_port() if trouble == "refuses" else silent.getsockname()[1]
        _, outbox = shop(f"redis://127.0.0.1:{port}/0")
        with caplog.at_level(logging.WARNING, "postroom.celery"):
            took_s = [order(outbox, database) for _ in range(20)]
            wait_for(lambda: caplog.records, "a warning", 30)
    assert sorted(took_s)[10] < 0.2
    assert len(caplog.records) == 1
    assert "the next sweep" in caplog.text


def test_hints_come_again_with_the_broker(redis_server: Redis, database: Engine) -> None:
    _, outbox = shop(redis_server.url, queue="back")
    order(outbox, database)
    with redis.Redis.from_url(redis_server.url) as broker:
        wait_for(lambda: broker.llen("back"), "a message")
    redis_server.stop()
    try:
        order(outbox, database)
    finally:
        redis_server.start()
    with redis.Redis.from_url(redis_server.url) as broker:
        wait_for(lambda: broker.llen("back"), "a message", 30)


def test_beat_sweeps(database: Engine) -> None:
    app, _ = shop("memory://", sweep_s=20, queue="mail")
    entry = app.conf.beat_schedule[TASK]
    assert (entry["task"], entry["schedule"]) == (TASK, 20)
    assert entry["options"] == {"queue": "mail"}


def test_the_schedule_survives_a_configuration_that_comes_later() -> None:
    app, _ = shop("memory://")
    app.config_from_object({"timezone": "Europe/Vienna"})
    assert TASK in app.conf.beat_schedule
    assert app.conf.timezone == "Europe/Vienna"


def test_the_tasks_own_options_hold_whatever_the_application_has_set() -> None:
    app, _ = shop("memory://", budget_s=20)
    app.conf.update(task_time_limit=5, task_soft_time_limit=3, task_acks_late=True)
    task = app.tasks[TASK]
    assert task.time_limit > task.soft_time_limit > 20
    assert task.ignore_result
    assert not task.acks_late
