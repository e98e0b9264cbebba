"""The worker in the processes that serve a Flask application."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import URL

from postroom import Message, Outbox
from postroom.storage.engine import read_transaction, worker_engine
from postroom.testing import FaultyRelay
from tests.integration.flask_shop import create_app, db, mail, make_tables
from tests.services.waiting import wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shop(sqlite_url: URL, relay: FaultyRelay) -> Iterator[Callable[..., Flask]]:
    """Makes the application; what it has begun is ended."""
    made: list[Flask] = []

    def make(**config: Any) -> Flask:
        settings = {"SQLALCHEMY_DATABASE_URI": sqlite_url, "POSTROOM_RELAY": relay.url}
        app = create_app(**(settings | {"POSTROOM_POLL_INTERVAL_S": 0.05} | config))
        made.append(app)
        return app

    yield make
    for app in made:
        mail.stop(app)
        mail.outbox_of(app).close()
        with app.app_context():
            db.engine.dispose()


def is_delivering() -> bool:
    return any(thread.name == "postroom-coordinator" for thread in threading.enumerate())


def test_the_first_request_begins_to_deliver(
    shop: Callable[..., Flask], relay: FaultyRelay
) -> None:
    app = shop()
    make_tables(app)
    assert not is_delivering()
    client = app.test_client()
    client.post("/orders/A-1")
    client.post("/orders/A-2")
    relay.wait_for(2)
    mail.stop(app)
    assert not is_delivering()


@pytest.mark.parametrize("config", [{"TESTING": True}, {"POSTROOM_IN_PROCESS_WORKER": False}])
def test_nothing_begins_where_it_should_not(
    shop: Callable[..., Flask], config: dict[str, Any]
) -> None:
    before = threading.enumerate()
    app = shop(**config)
    make_tables(app)
    app.test_client().post("/orders/A-1")
    begun = [one for one in threading.enumerate() if one not in before]
    assert not [one for one in begun if one.name.startswith("postroom-")]


def test_requests_go_on_while_the_outbox_cannot_be_used(
    shop: Callable[..., Flask], relay: FaultyRelay, caplog: pytest.LogCaptureFixture
) -> None:
    app = shop()
    with caplog.at_level(logging.WARNING, logger="postroom.worker"):
        assert app.test_client().get("/").status_code == 200
        wait_for(lambda: caplog.messages, "a warning")
    assert "no mail is delivered from this process: expected Postroom's tables" in caplog.text
    make_tables(app)
    app.test_client().post("/orders/A-1")
    relay.wait_for(1)


def test_a_server_may_begin_before_a_request(
    shop: Callable[..., Flask], relay: FaultyRelay
) -> None:
    app = shop()
    make_tables(app)
    with app.test_request_context():
        mail.enqueue(Message(subject="Hi", text="Hello\n"), to=["ada@example.com"])
        db.session.commit()
    mail.start(app)
    relay.wait_for(1)


# -- servers ----------------------------------------------------------------------------------


class Server:
    """A program that serves the application of `flask_shop`, within a ``with`` block."""

    def __init__(self, command: list[str], settings: dict[str, str], log: Path) -> None:
        self.port = free_port()
        self.log = log
        words = [word.format(port=self.port) for word in command]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=ROOT,
                env={**os.environ, **settings},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Server:
        wait_for(self._is_up, "the server to answer", 60)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, path: str, *, post: bool = False) -> int:
        """Return the process that answered."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", method="POST" if post else "GET"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.read())

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return bool(self.ask("/"))
        except OSError:
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def settings(sqlite_url: URL, relay: FaultyRelay) -> dict[str, str]:
    """The environment of a server; the tables are made."""
    url = sqlite_url.render_as_string(hide_password=False)
    app = create_app(SQLALCHEMY_DATABASE_URI=url)
    make_tables(app)
    mail.outbox_of(app).close()
    with app.app_context():
        db.engine.dispose()
    return {
        "FLASK_SQLALCHEMY_DATABASE_URI": url,
        "FLASK_POSTROOM_RELAY": f"{relay.url}&connections=1",
        "FLASK_POSTROOM_POLL_INTERVAL_S": "0.05",
    }


def workers(settings: dict[str, str]) -> set[int]:
    """Return the processes that say in the database that they deliver."""
    outbox = Outbox(engine=worker_engine(settings["FLASK_SQLALCHEMY_DATABASE_URI"]))
    with read_transaction(outbox.engine) as connection:
        found = {worker.pid for worker in outbox.stats(connection).workers}
    outbox.close()
    return found


def delivered(relay: FaultyRelay) -> list[str]:
    return sorted(one.recipients[0].partition("@")[0] for one in relay.accepted)


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["plain", "preload"])
def test_gunicorns_processes_each_deliver_through_a_reload(
    settings: dict[str, str], relay: FaultyRelay, options: list[str], tmp_path: Path
) -> None:
    app = "tests.integration.flask_shop:create_app()"
    command = ["gunicorn", "--workers", "2", "--bind", "127.0.0.1:{port}", *options, app]
    with Server(command, settings, tmp_path / "log") as server:
        first = {server.ask(f"/orders/{number}", post=True) for number in range(100, 120)}
        wait_for(lambda: len(relay.accepted) == 20, "all of the first mails")
        assert first <= workers(settings)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: server.ask("/") not in first, "new processes")
        for number in range(120, 140):
            server.ask(f"/orders/{number}", post=True)
        wait_for(lambda: len(relay.accepted) == 40, "all mails")
        server.process.terminate()
        server.process.wait(timeout=40)
    assert workers(settings) == set()
    assert delivered(relay) == [str(number) for number in range(100, 140)]
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_only_the_child_of_a_reloader_delivers(
    settings: dict[str, str], relay: FaultyRelay, tmp_path: Path
) -> None:
    command = ["flask", "--app", "tests.integration.flask_shop", "run", "--debug"]
    with Server([*command, "--port", "{port}"], settings, tmp_path / "log") as server:
        child = server.ask("/orders/A-1", post=True)
        relay.wait_for(1)
        assert child != server.process.pid
        assert workers(settings) == {child}
        os.kill(child, signal.SIGTERM)
        server.process.wait(timeout=40)
    assert workers(settings) == set()
