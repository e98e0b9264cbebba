"""The example shop under gunicorn, reloaded and killed while customers place orders.

The relay keeps a log of its own; the orders that were committed are compared with it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException
from http.cookiejar import CookieJar
from pathlib import Path

import pytest
from flask import Flask
from itsdangerous import URLSafeTimedSerializer
from sqlalchemy import URL, select

from examples.shop import people
from examples.shop.app import create_app
from examples.shop.mail import postroom
from examples.shop.models import CustomerOrder, User, db
from postroom.testing import FaultyRelay
from tests.services.waiting import free_port, listens, wait_for

PROCESSES = 2
CONNECTIONS = 4
UNRECORDED = 20
#: What one kill may repeat: in each process one mail a connection, and what was not yet committed.
PROMISED_DUPLICATES = PROCESSES * (CONNECTIONS + UNRECORDED)
SECRET = "for tests"


class Gunicorn:
    """A server of the shop, in a process group of its own."""

    def __init__(self, settings: dict[str, str], log: Path) -> None:
        self.port = free_port()
        self._settings = settings
        self._log = log
        self.start()

    def start(self) -> None:
        place = ["--bind", f"127.0.0.1:{self.port}", "--workers", str(PROCESSES)]
        load = [
            "--threads",
            "4",
            "--worker-class",
            "gthread",
            "tests.faults.shop_that_fails:shop()",
        ]
        with self._log.open("ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *place, *load],
                env={**os.environ, **self._settings},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for(lambda: listens(self.port), "gunicorn to listen", 60)

    def reload(self) -> None:
        self._child.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """Kill all of it at once."""
        os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def stop(self) -> None:
        self._child.terminate()
        try:
            self._child.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


class Customer:
    """Places orders, whatever the server does; what fails is left to the shop."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"
        cookies = urllib.request.HTTPCookieProcessor(CookieJar())
        self._opener = urllib.request.build_opener(cookies)
        self._csrf = ""

    def sign_in(self, user_id: int) -> None:
        token = URLSafeTimedSerializer(SECRET, salt="sign-in").dumps(user_id)
        page = self._ask(f"/sign-in/{token}")
        self._csrf = re.findall(r'name="csrf_token" value="([^"]+)"', page)[0]

    def order(self) -> bool:
        """Return whether the shop said that the order was placed."""
        try:
            self._ask(
                "/orders", urllib.parse.urlencode({"csrf_token": self._csrf, "ink": 1}).encode()
            )
        except (OSError, HTTPException):
            return False
        return True

    def _ask(self, path: str, form: bytes | None = None) -> str:
        with self._opener.open(self._url + path, form, timeout=60) as answer:
            return str(answer.read().decode())


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[FaultyRelay]:
    with FaultyRelay(journal=tmp_path / "journal", syncs=False) as relay:
        yield relay


@pytest.fixture
def settings(postgresql_url: URL, relay: FaultyRelay) -> dict[str, str]:
    return {
        "FLASK_SECRET_KEY": SECRET,
        "FLASK_SQLALCHEMY_DATABASE_URI": postgresql_url.render_as_string(hide_password=False),
        "FLASK_POSTROOM_RELAY": f"{relay.url}&connections={CONNECTIONS}",
        "FLASK_POSTROOM_MAX_UNCOMMITTED": str(UNRECORDED),
        "FLASK_POSTROOM_LEASE_S": "5",
        "FLASK_POSTROOM_IN_DOUBT_RETRY_S": "1",
    }


@pytest.fixture
def app(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The shop as the test looks at it, on the same database."""
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    app = create_app()
    with app.app_context():
        db.create_all()
        postroom.outbox.create_tables()
        people.settle()
    yield app
    postroom.outbox_of(app).close()
    with app.app_context():
        db.engine.dispose()


@contextmanager
def gunicorn(settings: dict[str, str], log: Path) -> Iterator[Gunicorn]:
    server = Gunicorn(settings, log)
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_committed_order_is_confirmed_while_gunicorn_is_reloaded_and_killed(
    app: Flask,
    settings: dict[str, str],
    relay: FaultyRelay,
    tmp_path: Path,
    full: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted, customers, reloads = (5000, 20, 5) if full else (240, 6, 2)
    placed = threading.Semaphore(0)
    with gunicorn(settings, tmp_path / "log") as server:
        with app.app_context():
            ada = db.session.scalars(select(User.id).where(User.email == people.ADA)).one()

        def buy(_number: int) -> int:
            customer, bought = Customer(server.port), 0
            customer.sign_in(ada)
            while bought < wanted // customers:
                if customer.order():
                    bought += 1
                    placed.release()
                else:
                    wait_for(lambda: listens(server.port), "the shop to open again", 60)
            return bought

        with ThreadPoolExecutor(customers) as crowd:
            buying = [crowd.submit(buy, number) for number in range(customers)]
            for step in range(reloads + 1):
                for _ in range(wanted // (reloads + 2)):
                    assert placed.acquire(timeout=300)
                if step == reloads // 2:
                    server.kill()
                    server.start()
                else:
                    server.reload()
            assert sum(one.result() for one in buying) == wanted
        wait_for(lambda: _due(app) == 0, "every mail to be sent", 300)
    with app.app_context():
        orders = set(db.session.scalars(select(CustomerOrder.order_number))) - people.NUMBERS
    copies = Counter(_number_in(one.content) for one in relay.accepted)
    with capsys.disabled():
        twice = copies.total() - len(copies)
        sys.stdout.write(
            f"\n{len(orders)} orders committed, {len(copies)} confirmed; {reloads} reloads, "
            f"1 kill; {twice} sent twice (promised: at most {PROMISED_DUPLICATES})\n"
        )
    assert len(orders) >= wanted
    assert set(copies) == orders
    assert copies.total() - len(orders) <= PROMISED_DUPLICATES
    assert b"DiskFull" in (tmp_path / "log").read_bytes()


def _due(app: Flask) -> int:
    with app.app_context():
        counts = postroom.outbox.stats(db.session)
        return sum(number for state, number in counts.by_state.items() if state != "accepted")


def _number_in(content: bytes) -> str:
    found = re.search(rb"^Subject: Order (A-\w+) is confirmed", content, flags=re.MULTILINE)
    assert found is not None
    return found[1].decode()
