"""Whatever one callable, the machine or the application's logging does, all other mail goes on."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from postroom import (
    Fault,
    Message,
    Outbox,
    Phase,
    Receipt,
    Recipient,
    RecipientState,
    RecipientStatus,
    RenderBudget,
    Template,
    WorkerConfig,
)
from postroom.relays.relay import Relay
from postroom.relays.route import Route
from postroom.testing import FaultyRelay
from tests.services.waiting import wait_for

ADA, BOB = "ada@example.com", "bob@example.com"
QUICK = WorkerConfig(poll_interval_s=0.05, lease_s=5, shutdown_grace_s=1)
NO_THREAD = "can't start new thread"


class Shop:
    """An application with an outbox over several relays, and short ways to use it."""

    def __init__(self, engine: Engine, **relays: Route) -> None:
        self.engine = engine
        self.outbox = Outbox(relays, engine=engine, sender="shop@example.com", worker=QUICK)

    def enqueue(self, *to: str, relay: str, **message: Any) -> Receipt:
        with Session(self.engine) as session, session.begin():
            wanted = Message(subject="Order", text="Thank you.\n", relay=relay, **message)
            return self.outbox.enqueue(session, wanted, to=to)

    def recipient(self, receipt: Receipt) -> Any:
        with Session(self.engine) as session:
            return self.outbox.status(session, receipt).recipients[0]

    def wait_for_state(self, receipt: Receipt, state: RecipientState) -> None:
        wait_for(lambda: self.recipient(receipt).state == state, f"{state}", 15)


@pytest.fixture
def other() -> Iterator[FaultyRelay]:
    """A second relay."""
    with FaultyRelay() as relay:
        yield relay


@pytest.fixture
def opened(engine: Engine) -> Iterator[Callable[..., Shop]]:
    """Returns what opens a shop over some relays; all are closed at the end."""
    shops: list[Shop] = []

    def opened(**relays: Route) -> Shop:
        shops.append(Shop(engine, **relays))
        return shops[-1]

    yield opened
    for shop in shops:
        shop.outbox.close()


def relay_of(server: FaultyRelay, name: str, **fields: Any) -> Relay:
    return Relay.parse(f"{server.url}&connections=2", name=name, **fields)


class Token:
    """A callable that gives out a token, or raises."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    def __call__(self) -> str:
        if self.error is not None:
            raise self.error
        return "a-token"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("identity.example.com does not answer"),
        TypeError("unsupported operand"),
        KeyError("access_token"),
        SystemExit(3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_token_callable_that_raises_rests_its_relay_and_no_other(
    opened: Callable[..., Shop], relay: FaultyRelay, other: FaultyRelay, error: BaseException
) -> None:
    token = Token(error)
    url = relay.url.replace("://", "://shop@") + "&auth_over_clear=yes&connections=2"
    shop = opened(main=Relay.parse(url, name="main", token=token), other=relay_of(other, "other"))
    with shop.outbox.running():
        stuck = [shop.enqueue(f"{n}@example.com", relay="main") for n in range(4)]
        fine = shop.enqueue(BOB, relay="other")
        shop.wait_for_state(fine, RecipientState.ACCEPTED)
        for receipt in stuck:
            shop.wait_for_state(receipt, RecipientState.DEFERRED)
        told = [shop.recipient(receipt) for receipt in stuck]
        said = next(one for one in told if one.attempt_count)
        assert said.fault == Fault.CREDENTIALS
        assert "the token of the relay main" in said.reply
        assert type(error).__name__ in said.reply
        token.error = None
        relay.options = relay.options.__class__(credentials={"shop": "a-token"})
        for receipt in stuck:
            shop.wait_for_state(receipt, RecipientState.ACCEPTED)


@pytest.mark.parametrize(
    "error",
    [
        UnicodeError("label empty or too long"),
        TypeError("getaddrinfo() argument 1 must be string or None"),
        RuntimeError("the resolver is closed"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_odd_error_of_the_resolver_defers_and_says_what_it_was(
    opened: Callable[..., Shop],
    other: FaultyRelay,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    resolve = socket.getaddrinfo

    def odd(host: str, *rest: Any, **options: Any) -> Any:
        if host == "odd.example":
            raise error
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", odd)
    main = Relay.parse("smtp://odd.example:25?tls=off&connections=2", name="main")
    shop = opened(main=main, other=relay_of(other, "other"))
    with shop.outbox.running():
        stuck = [shop.enqueue(f"{n}@example.com", relay="main") for n in range(4)]
        fine = shop.enqueue(BOB, relay="other")
        shop.wait_for_state(fine, RecipientState.ACCEPTED)
        for receipt in stuck:
            shop.wait_for_state(receipt, RecipientState.DEFERRED)
        said = [shop.recipient(receipt).reply for receipt in stuck]
        assert any(type(error).__name__ in (reply or "") for reply in said), said


@pytest.mark.parametrize(
    "name", ["postroom-senders", "postroom-aside", "postroom-resolve-localhost"]
)
def test_a_thread_that_cannot_start_costs_a_delay_and_no_more(
    opened: Callable[..., Shop], relay: FaultyRelay, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    is_out_of_threads = True
    refused: list[str] = []
    start = threading.Thread.start

    def start_or_not(thread: threading.Thread) -> None:
        if is_out_of_threads and thread.name == name:
            refused.append(thread.name)
            raise RuntimeError(NO_THREAD)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_not)
    url = relay.url.replace("127.0.0.1", "localhost")
    shop = opened(main=Relay.parse(f"{url}&connections=2", name="main"))
    with shop.outbox.running():
        receipts = [shop.enqueue(f"{n}@example.com", relay="main") for n in range(4)]
        for receipt in receipts:
            shop.wait_for_state(receipt, RecipientState.DEFERRED)
        told = [shop.recipient(receipt) for receipt in receipts]
        assert {one.fault for one in told} == {Fault.OURSELVES}
        assert NO_THREAD in told[0].reply
        is_out_of_threads = False
        for receipt in receipts:
            shop.wait_for_state(receipt, RecipientState.ACCEPTED)
    assert refused


def test_a_connection_that_nobody_can_look_after_is_not_kept(
    opened: Callable[..., Shop], relay: FaultyRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def start_or_not(thread: threading.Thread) -> None:
        if isinstance(thread, threading.Timer):
            raise RuntimeError(NO_THREAD)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_not)
    shop = opened(main=relay_of(relay, "main"))
    for _ in range(2):
        receipt = shop.enqueue(ADA, relay="main")
        assert shop.outbox.worker(keep_connections=True).drain()
        assert shop.recipient(receipt).state == RecipientState.ACCEPTED
    assert relay.connections == 2


@pytest.fixture
def factory() -> Iterator[Callable[[Callable[..., logging.LogRecord]], None]]:
    """Sets the application's record factory; it is afterwards as it was."""
    before = logging.getLogRecordFactory()
    yield logging.setLogRecordFactory
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize("does", ["raises", "sets our fields"])
def test_an_application_whose_logging_fails_delivers_all_the_same(
    opened: Callable[..., Shop],
    relay: FaultyRelay,
    factory: Callable[[Callable[..., logging.LogRecord]], None],
    does: str,
) -> None:
    ordinary = logging.getLogRecordFactory()

    def odd(*args: Any, **options: Any) -> logging.LogRecord:
        if does == "raises":
            raise LookupError("no request is being served")
        record = ordinary(*args, **options)
        record.message_id = record.recipient = record.relay = "theirs"
        return record

    relay.on(Phase.RCPT, "550 5.1.1 no such user", address=ADA)
    shop = opened(main=relay_of(relay, "main"))
    with shop.outbox.running():
        factory(odd)
        refused = shop.enqueue(ADA, relay="main")
        shop.wait_for_state(refused, RecipientState.REJECTED)
        fine = shop.enqueue(BOB, relay="main")
        shop.wait_for_state(fine, RecipientState.ACCEPTED)
        factory(ordinary)
        assert shop.outbox._in_process.is_running


def test_a_template_that_takes_long_keeps_nobody_waiting_and_is_refused(
    engine: Engine, other: FaultyRelay
) -> None:
    config = replace(QUICK, render_budget=RenderBudget(seconds=2, steps=10**9))
    outbox = Outbox(other.url, engine=engine, sender="shop@example.com", worker=config)
    loop = "{% for a in range(99999) %}"
    endless = loop * 2 + "{% endfor %}" * 2 + "{{ n }}"
    with Session(engine) as session, session.begin():
        slow = outbox.enqueue(
            session,
            Message(subject="Slow", text=Template.from_string(endless), lane="urgent"),
            to=[Recipient(ADA, variables={"n": 1})],
        )
        others = [
            outbox.enqueue(session, Message(subject=f"{number}", text="Quick.\n"), to=[BOB])
            for number in range(20)
        ]
    with outbox.running():
        wait_for(lambda: _state(outbox, slow).state == "rejected", "the refusal", 30)
    refused = _state(outbox, slow)
    quick = [_state(outbox, one) for one in others]
    outbox.close()
    assert refused.fault is Fault.MESSAGE
    assert "RenderBudget" in (refused.reply or "")
    assert {one.state for one in quick} == {RecipientState.ACCEPTED}
    assert max(one.updated_at for one in quick) < refused.updated_at


def _state(outbox: Outbox, receipt: Receipt) -> RecipientStatus:
    with Session(outbox.engine) as session:
        return outbox.status(session, receipt).recipients[0]
