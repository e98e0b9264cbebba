"""Celery's workers deliver, whatever becomes of the broker's messages."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis
from celery import Celery
from sqlalchemy import URL, create_engine
from sqlalchemy.orm import Session

from postroom import Message, Outbox
from postroom.integrations.celery import TASK, setup
from postroom.storage import schema
from postroom.storage.engine import prepare_sqlite
from postroom.testing import FaultyRelay
from tests.services.daemon import Daemon
from tests.services.redis import Redis
from tests.services.waiting import wait_for

ROOT = Path(__file__).parents[2]


@dataclass
class Shop:
    """An application that enqueues, its Celery workers, and the relay they deliver to."""

    monkeypatch: pytest.MonkeyPatch
    broker: Redis
    relay: FaultyRelay
    outbox: Outbox
    app: Celery
    addresses: list[str] = field(default_factory=list)

    def set(self, **settings: str) -> None:
        for name, value in settings.items():
            self.monkeypatch.setenv(name.upper(), value)

    def order(self, mails: int = 1) -> None:
        """Enqueue and commit; each mail is for somebody else."""
        first = len(self.addresses)
        fresh = [f"reader-{number}@example.com" for number in range(first, first + mails)]
        with Session(self.outbox.engine) as session, session.begin():
            self.outbox.enqueue(session, Message(text="Thank you."), to=fresh)
        self.addresses += fresh

    def flush(self) -> None:
        with redis.Redis.from_url(self.broker.url) as client:
            client.flushall()

    def send_tasks(self, count: int) -> None:
        for _ in range(count):
            self.app.send_task(TASK, ignore_result=True)

    @contextmanager
    def workers(self, pool: str, processes: int = 1, *, beat: bool = False) -> Iterator[Daemon]:
        worker = Daemon("celery")
        beating = ["-B", "-s", str(worker.folder / "beat")] if beat else []
        try:
            worker.start(
                *(sys.executable, "-m", "celery", "--workdir", str(ROOT)),
                *("-A", "tests.integration.celery_app", "worker", "-P", pool, "-c", str(processes)),
                *("--without-mingle", "--without-gossip", "-l", "info", *beating),
                is_ready=lambda: " ready." in worker.log.read_text(),
            )
            yield worker
        finally:
            worker.remove()

    def copies(self) -> Counter[str]:
        return Counter(mail.recipients[0] for mail in self.relay.accepted)

    def wait_until_all_arrived(self, timeout_s: float = 60) -> None:
        wait_for(lambda: set(self.copies()) == set(self.addresses), "all mail", timeout_s)

    def is_done(self) -> bool:
        with Session(self.outbox.engine) as session:
            states = self.outbox.counts(session).by_state
        return {state for state, count in states.items() if count} == {"accepted"}

    def assert_each_came_once(self) -> None:
        wait_for(self.is_done, "all outcomes to be recorded", 60)
        assert self.copies() == dict.fromkeys(self.addresses, 1)


@pytest.fixture(params=["sqlite"])
def shop(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    redis_server: Redis,
    tmp_path: Path,
) -> Iterator[Shop]:
    url: URL = request.getfixturevalue(f"{request.param}_url")
    engine = create_engine(url)
    prepare_sqlite(engine)
    schema.create(engine)
    app = Celery("shop", broker=redis_server.url)
    with FaultyRelay() as relay:
        outbox = Outbox(engine=engine, sender="shop@example.com")
        setup(app, outbox)
        shop = Shop(monkeypatch, redis_server, relay, outbox, app)
        monkeypatch.chdir(tmp_path)
        shop.set(
            shop_broker=redis_server.url,
            postroom_database_url=url.render_as_string(hide_password=False),
            postroom_relay=f"{relay.url}&connections=2",
            postroom_poll_s="0.2",
        )
        shop.flush()
        yield shop
        outbox.close()
        app.close()
    engine.dispose()


on_both = pytest.mark.parametrize("shop", ["sqlite", "postgresql"], indirect=True)


@pytest.mark.parametrize("pool", ["solo", "threads", "prefork"])
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
        shop.order(60)
        shop.wait_until_all_arrived()
        shop.assert_each_came_once()


@on_both
def test_messages_that_come_time_and_again_send_nothing_twice(shop: Shop) -> None:
    with shop.workers("prefork", 3):
        shop.order(40)
        shop.send_tasks(30)
        shop.order(40)
        shop.send_tasks(30)
        shop.wait_until_all_arrived()
        shop.assert_each_came_once()


@on_both
def test_a_broker_that_forgets_everything_costs_no_mail(shop: Shop) -> None:
    shop.set(shop_sweep_s="1")
    with shop.workers("prefork", 2, beat=True):
        for _ in range(10):
            shop.order(10)
            shop.flush()
        shop.wait_until_all_arrived()
        shop.assert_each_came_once()


@pytest.mark.slow
def test_a_broker_that_is_away_for_a_while_costs_no_mail(shop: Shop) -> None:
    shop.set(shop_sweep_s="1")
    with shop.workers("prefork", 2, beat=True):
        shop.order(10)
        shop.broker.stop()
        try:
            shop.order(10)
        finally:
            shop.broker.start()
        shop.order(10)
        shop.wait_until_all_arrived()
        shop.assert_each_came_once()


@pytest.mark.slow
@on_both
def test_a_child_that_is_killed_loses_nothing(shop: Shop) -> None:
    shop.set(
        shop_sweep_s="1",
        postroom_lease_s="1",
        postroom_max_unrecorded="10",
        postroom_relay=f"{shop.relay.url}&connections=2&rate=60/s",
    )
    victims = 0
    with shop.workers("prefork", 2, beat=True):
        shop.order(200)
        for arrived in (20, 50, 80):
            shop.relay.wait_for(arrived, timeout_s=60)
            for pid in wait_for(lambda: at_work(shop), "somebody at work"):
                os.kill(pid, signal.SIGKILL)
                victims += 1
        shop.wait_until_all_arrived()
        wait_for(shop.is_done, "all outcomes to be recorded", 60)
    assert shop.copies().total() <= 200 + victims * (2 + 10)


def at_work(shop: Shop) -> set[int]:
    """Return the processes that drain at this moment; the dead ones are still on the list."""
    with Session(shop.outbox.engine) as session:
        listed = {worker.pid for worker in shop.outbox.counts(session).workers}
    return {pid for pid in listed if "celery_app" in command_line(pid)}


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except OSError:
        return ""


def test_a_worker_that_is_stopped_returns_what_it_has_claimed(shop: Shop) -> None:
    shop.set(shop_budget_s="60", postroom_relay=f"{shop.relay.url}&connections=1&rate=20/s")
    with shop.workers("solo") as worker:
        shop.order(300)
        shop.relay.wait_for(5, timeout_s=60)
        worker.stop(timeout_s=15)
    assert leased(shop) == 0


def leased(shop: Shop) -> int:
    with Session(shop.outbox.engine) as session:
        return shop.outbox.counts(session).by_state.get("sending", 0)
