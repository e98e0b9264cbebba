"""A drain ends when nothing is due, or when its time is up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from postroom import Message, Outbox, WorkerConfig
from postroom.states import Phase
from postroom.testing import FaultyRelay


@pytest.fixture
def outbox(engine: Engine, relay: FaultyRelay) -> Iterator[Outbox]:
    outbox = Outbox(
        f"{relay.url}&connections=1&rate=20/s",
        engine=engine,
        sender="shop@example.com",
        worker=WorkerConfig(poll_interval_s=0.05),
    )
    yield outbox
    outbox.close()


def enqueue(outbox: Outbox, mails: int) -> None:
    with Session(outbox.engine) as session, session.begin():
        addresses = [f"reader-{number}@example.com" for number in range(mails)]
        outbox.enqueue(session, Message(text="x"), to=addresses)


def states(outbox: Outbox) -> dict[str, int]:
    with Session(outbox.engine) as session:
        return {state: n for state, n in outbox.stats(session).by_state.items() if n}


def test_what_is_not_sent_in_time_is_due_again_at_once(outbox: Outbox, relay: FaultyRelay) -> None:
    enqueue(outbox, 45)  # in its second the first drain sends 40 of them at most
    assert not outbox.worker().drain(budget_s=1)
    assert 0 < len(relay.accepted) < 45
    assert outbox.worker().drain()
    assert states(outbox) == {"accepted": 45}
    assert len(relay.accepted) == 45


def test_a_drain_that_is_done_does_not_wait_for_its_time(outbox: Outbox) -> None:
    enqueue(outbox, 1)
    assert outbox.worker().drain(budget_s=600)
    assert states(outbox) == {"accepted": 1}


def test_workers_that_keep_connections_share_one(outbox: Outbox, relay: FaultyRelay) -> None:
    for _ in range(3):
        enqueue(outbox, 2)
        assert outbox.worker(keep_connections=True).drain()
    assert len(relay.accepted) == 6
    assert relay.connections == 1


def test_a_kept_connection_that_the_relay_has_closed_costs_nothing(
    outbox: Outbox, relay: FaultyRelay
) -> None:
    enqueue(outbox, 1)
    outbox.worker(keep_connections=True).drain()
    relay.hang_up()
    enqueue(outbox, 1)
    outbox.worker(keep_connections=True).drain()
    assert states(outbox) == {"accepted": 2}


def test_a_rate_holds_from_one_worker_to_the_next(engine: Engine, relay: FaultyRelay) -> None:
    outbox = Outbox(f"{relay.url}&rate=3/h", engine=engine, sender="shop@example.com")
    for _ in range(3):
        enqueue(outbox, 2)
        outbox.worker().drain()
    outbox.close()
    assert len(relay.accepted) == 3


def test_a_circuit_breaker_stays_open_from_one_worker_to_the_next(
    outbox: Outbox, relay: FaultyRelay
) -> None:
    relay.on(Phase.MAIL, "421 4.3.2 closing")
    enqueue(outbox, 6)
    for _ in range(4):
        outbox.worker().drain()
    # Three faults open it, and each try after a pause is one more: four workers without it make 12.
    assert relay.connections < 8
