"""``postroom worker --processes N``: one outbox, several processes, and what happens to them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from postroom import Message, Outbox
from postroom.storage.engine import write_transaction
from postroom.testing import FaultyRelay
from tests.integration.terminal import Terminal
from tests.services.waiting import wait_for

STARTED = re.compile(r"worker process \d of \d started pid=(\d+)")


class Running:
    """The parent, and what it has said so far."""

    def __init__(self, parent: subprocess.Popen[str]) -> None:
        self.parent = parent
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.parent.stderr is not None
        self._lines.extend(iter(self.parent.stderr.readline, ""))

    @property
    def said(self) -> str:
        return "".join(self._lines)

    def members(self, count: int) -> list[int]:
        """Return the process ids of the first ``count`` that were started."""
        wait_for(lambda: len(self._pids()) >= count, f"{count} to be started", 60)
        return self._pids()[:count]

    def wait_for_workers(self, count: int) -> None:
        wait_for(lambda: self.said.count("worker started") >= count, f"{count} at work", 60)

    def _pids(self) -> list[int]:
        return [int(pid) for pid in STARTED.findall(self.said)]

    def end(self) -> int:
        """Return the parent's exit code."""
        code = self.parent.wait(60)
        self._reader.join(10)
        return code


@contextmanager
def running(terminal: Terminal, *options: str) -> Iterator[Running]:
    with terminal.started("worker", "--processes", "2", *options) as parent:
        yield Running(parent)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def enqueue(mails: int) -> list[str]:
    addresses = [f"reader-{number}@example.com" for number in range(mails)]
    outbox = Outbox.from_env()
    with write_transaction(outbox.engine) as connection:
        outbox.enqueue(connection, Message(text="Is it there?"), to=addresses)
    outbox.close()
    return addresses


def copies(relay: FaultyRelay) -> Counter[str]:
    return Counter(mail.recipients[0] for mail in relay.accepted)


def test_all_end_when_nothing_is_left_and_each_mail_went_once(
    terminal: Terminal, relay: FaultyRelay
) -> None:
    addresses = enqueue(100)
    with running(terminal, "--until-empty") as workers:
        assert workers.end() == 0
    assert workers.said.count("worker stopped") == 2
    assert copies(relay) == dict.fromkeys(addresses, 1)


@pytest.mark.slow
def test_one_that_is_killed_is_replaced_and_nothing_is_lost(
    terminal: Terminal, relay: FaultyRelay
) -> None:
    terminal.set(relay=f"{relay.url}&rate=50/s&connections=2", lease_s="1", max_uncommitted="10")
    addresses = enqueue(300)
    with running(terminal, "--until-empty") as workers:
        relay.wait_for(50, timeout_s=60)
        os.kill(workers.members(2)[0], signal.SIGKILL)
        assert len(workers.members(3)) == 3
        assert workers.end() == 0
    assert "ended (SIGKILL)" in workers.said
    arrived = copies(relay)
    assert set(arrived) == set(addresses)
    assert arrived.total() <= len(addresses) + 2 + 10  # as docs/delivery.md promises


def test_a_signal_to_the_parent_stops_all_in_order(terminal: Terminal, relay: FaultyRelay) -> None:
    with running(terminal) as workers:
        workers.wait_for_workers(2)
        workers.parent.send_signal(signal.SIGTERM)
        assert workers.end() == 0
        members = workers.members(2)
    assert workers.said.count("worker stopped") == 2
    assert all(map(is_gone, members))


def test_what_does_not_end_in_time_is_cut(terminal: Terminal, relay: FaultyRelay) -> None:
    with running(terminal) as workers:
        workers.wait_for_workers(2)
        stopped = workers.members(2)[0]
        os.kill(stopped, signal.SIGSTOP)
        workers.parent.send_signal(signal.SIGINT)
        # A stopped process may hold SQLite's write lock, for which the other one waits 30 s.
        other = workers.members(2)[1]
        wait_for(lambda: is_gone(other) or "worker stopped" in workers.said, "one to end", 90)
        workers.parent.send_signal(signal.SIGINT)
        assert workers.end() == 1
    assert is_gone(stopped)
    assert "tried again" in workers.said


def test_nobody_works_on_whose_parent_was_killed(terminal: Terminal, relay: FaultyRelay) -> None:
    with running(terminal) as workers:
        workers.wait_for_workers(2)
        members = workers.members(2)
        workers.parent.kill()
        wait_for(lambda: workers.said.count("worker stopped") == 2, "all to stop", 60)
        wait_for(lambda: all(map(is_gone, members)), "all to be gone", 60)


def test_what_is_missing_is_said_once_and_nothing_is_started(terminal: Terminal) -> None:
    terminal.set(relay="")
    assert "POSTROOM_RELAY" in terminal.fails(3, "worker", "--processes", "2")
