"""An application with Celery: what it enqueues, its workers, and the relay they deliver to."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest
from celery import Celery
from sqlalchemy import URL, create_engine
from sqlalchemy.orm import Session

from postroom import Message, Outbox
from postroom.integrations.celery import TASK, setup
from postroom.storage import schema
from postroom.storage.engine import configure_sqlite
from postroom.testing import FaultyRelay
from tests.services.daemon import Daemon
from tests.services.waiting import wait_for

ROOT = Path(__file__).parents[2]


class Broker(Protocol):
    """A server of our own that carries Celery's messages."""

    @property
    def url(self) -> str: ...

    def flush(self) -> None:
        """Lose every message that waits."""

    def stop(self) -> None: ...

    def start(self) -> None: ...

    def restart(self) -> None: ...


@dataclass
class Shop:
    """An application that enqueues, its Celery workers, and the relay they deliver to."""

    monkeypatch: pytest.MonkeyPatch
    broker: Broker
    relay: FaultyRelay
    outbox: Outbox
    app: Celery
    addresses: list[str] = field(default_factory=list)
    _start_again: list[tuple[Daemon, Callable[[], None]]] = field(default_factory=list)

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

    def send_tasks(self, count: int) -> None:
        for _ in range(count):
            self.app.send_task(TASK, ignore_result=True)

    @contextmanager
    def workers(self, pool: str, processes: int = 1, *, beat: bool = False) -> Iterator[Daemon]:
        worker = Daemon("celery")
        beating = ["-B", "-s", str(worker.folder / "beat")] if beat else []

        def start() -> None:
            before = worker.log.read_text().count(" ready.") if worker.log.exists() else 0
            worker.start(
                *(sys.executable, "-m", "celery", "--workdir", str(ROOT)),
                *("-A", "tests.integration.celery_app", "worker", "-P", pool, "-c", str(processes)),
                *("--without-mingle", "--without-gossip", "-l", "info", *beating),
                is_ready=lambda: worker.log.read_text().count(" ready.") > before,
            )

        try:
            start()
            self._start_again.append((worker, start))
            yield worker
        finally:
            self._start_again.clear()
            # Shown only where the test failed.
            print(worker.log.read_text()[-6000:])
            worker.remove()

    def supervise(self) -> None:
        """Start workers again that have ended, as systemd does; for tests that hurt the broker.

        Celery's main process ends where Redis goes away while it holds a message that it has not
        yet acknowledged: on closing the connection it wants to give the message back.
        """
        for worker, start in self._start_again:
            if worker.has_ended:
                start()

    def copies(self) -> Counter[str]:
        return Counter(mail.recipients[0] for mail in self.relay.accepted)

    def wait_until_all_arrived(self, timeout_s: float = 60) -> None:
        wait_for(lambda: set(self.copies()) == set(self.addresses), "all mail", timeout_s)

    def is_done(self) -> bool:
        with Session(self.outbox.engine) as session:
            states = self.outbox.stats(session).by_state
        return {state for state, count in states.items() if count} == {"accepted"}

    def assert_each_came_once(self) -> None:
        wait_for(self.is_done, "all outcomes to be recorded", 60)
        assert self.copies() == dict.fromkeys(self.addresses, 1)

    def at_work(self) -> set[int]:
        """Return the processes that drain at this moment; the dead are still on the list."""
        with Session(self.outbox.engine) as session:
            listed = {worker.pid for worker in self.outbox.stats(session).workers}
        return {pid for pid in listed if "celery_app" in _command_line(pid)}

    def leased(self) -> int:
        """Return how many recipients some worker holds."""
        with Session(self.outbox.engine) as session:
            return self.outbox.stats(session).by_state.get("sending", 0)


@contextmanager
def opened(
    monkeypatch: pytest.MonkeyPatch, url: URL, broker: Broker, journal: Path | None = None
) -> Iterator[Shop]:
    """Yield a shop on the empty database at ``url``."""
    engine = create_engine(url)
    configure_sqlite(engine)
    schema.create(engine)
    app = Celery("shop", broker=broker.url)
    with FaultyRelay(journal=journal) as relay:
        outbox = Outbox(engine=engine, sender="shop@example.com")
        setup(app, outbox)
        shop = Shop(monkeypatch, broker, relay, outbox, app)
        shop.set(
            shop_broker=broker.url,
            postroom_database_url=url.render_as_string(hide_password=False),
            postroom_relay=f"{relay.url}&connections=2",
            postroom_poll_interval_s="0.2",
        )
        broker.flush()
        yield shop
        outbox.close()
        app.close()
    engine.dispose()


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except OSError:
        return ""
