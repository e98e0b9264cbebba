"""Wakeups are sent in the background: soon, few, and at nobody else's expense."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from postroom.backoff import Backoff
from postroom.integrations.celery import notifier
from postroom.integrations.celery.notifier import BackgroundNotifier


class Broker:
    """Takes wakeups, or fails as long as it is down."""

    def __init__(self) -> None:
        self.is_down = False
        self.opened = 0
        self.sent = threading.Semaphore(0)
        self.failed = threading.Semaphore(0)
        self.may_answer = threading.Event()
        self.may_answer.set()

    def open(self) -> Callable[[], None]:
        self.opened += 1
        return self._send

    def _send(self) -> None:
        self.may_answer.wait(10)
        if self.is_down:
            self.failed.release()
            raise ConnectionError("nobody there")
        self.sent.release()


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    monkeypatch.setattr(notifier, "_RETRY", Backoff(first_s=0.01, longest_s=0.01))
    monkeypatch.setattr(notifier, "_FLUSH_TIMEOUT_S", 0.0)
    return Broker()


def test_many_calls_while_one_is_under_way_become_one_more(broker: Broker) -> None:
    broker.may_answer.clear()
    background = BackgroundNotifier(broker.open, interval_s=0.01)
    for _ in range(100):
        background.notify()
    broker.may_answer.set()
    assert broker.sent.acquire(timeout=10)
    sent = 1
    while broker.sent.acquire(timeout=0.2):
        sent += 1
    assert sent <= 2


def test_each_hint_after_a_rest_is_sent(broker: Broker) -> None:
    background = BackgroundNotifier(broker.open, interval_s=0)
    for _ in range(3):
        background.notify()
        assert broker.sent.acquire(timeout=10)
    assert broker.opened == 1


def test_a_broker_that_is_down_is_logged_once_and_woken_when_it_is_back(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "postroom.celery")
    broker.is_down = True
    background = BackgroundNotifier(broker.open, interval_s=0)
    background.notify()
    for _ in range(5):
        assert broker.failed.acquire(timeout=10)
    broker.is_down = False
    assert broker.sent.acquire(timeout=10)
    warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "nobody there" in warnings[0]


def test_a_forked_process_opens_a_way_of_its_own(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    background = BackgroundNotifier(broker.open, interval_s=0)
    background.notify()
    assert broker.sent.acquire(timeout=10)
    monkeypatch.setattr("os.getpid", lambda: 1)
    background.notify()
    assert broker.sent.acquire(timeout=10)
    assert broker.opened == 2
