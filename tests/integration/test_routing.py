"""Which relay mail goes to, how fast, and where it goes while one rests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from postroom import (
    ConfigError,
    Lane,
    Message,
    Outbox,
    Phase,
    Receipt,
    RecipientState,
    RoutingTable,
    WorkerConfig,
)
from postroom.testing.faulty_relay import FaultyRelay

QUICK = WorkerConfig(poll_interval_s=0.05, lease_s=5)


@pytest.fixture
def first() -> Iterator[FaultyRelay]:
    with FaultyRelay() as relay:
        yield relay


@pytest.fixture
def second() -> Iterator[FaultyRelay]:
    with FaultyRelay() as relay:
        yield relay


def named(relay: FaultyRelay, name: str) -> str:
    return f"{relay.url}&name={name}"


def enqueue(outbox: Outbox, engine: Engine, *to: str, **message: object) -> Receipt:
    fields = {"sender": "shop@example.com", "subject": "Hello", "text": "x"} | message
    with Session(engine) as session, session.begin():
        return outbox.enqueue(session, Message(**fields), to=to)  # type: ignore[arg-type]


def states(outbox: Outbox, engine: Engine, receipt: Receipt) -> set[RecipientState]:
    with Session(engine) as session:
        return {one.state for one in outbox.status(session, receipt).recipients}


def test_a_message_may_name_its_relay(
    engine: Engine, first: FaultyRelay, second: FaultyRelay
) -> None:
    outbox = Outbox({"main": first.url, "bulk": second.url}, engine=engine, worker=QUICK)
    enqueue(outbox, engine, "ada@example.com")
    enqueue(outbox, engine, "bob@example.com", relay="bulk")
    outbox.worker().drain()
    assert [mail.recipients for mail in first.accepted] == [("ada@example.com",)]
    assert [mail.recipients for mail in second.accepted] == [("bob@example.com",)]
    outbox.close()


def test_lanes_and_sender_domains_have_relays_of_their_own(
    engine: Engine, first: FaultyRelay, second: FaultyRelay
) -> None:
    routing = RoutingTable.of(
        {"main": first.url, "other": second.url},
        by_lane={"bulk": "other"},
        by_sender={"Brand.example": "other"},
    )
    outbox = Outbox(routing, engine=engine, worker=QUICK)
    enqueue(outbox, engine, "ada@example.com", lane=Lane.BULK)
    enqueue(outbox, engine, "bob@example.com", sender="news@brand.EXAMPLE")
    enqueue(outbox, engine, "eve@example.com")
    outbox.worker().drain()
    assert [mail.recipients[0] for mail in first.accepted] == ["eve@example.com"]
    assert {mail.recipients[0] for mail in second.accepted} == {
        "ada@example.com",
        "bob@example.com",
    }
    outbox.close()


def test_mail_goes_to_the_next_relay_while_the_first_is_down(
    engine: Engine, first: FaultyRelay, second: FaultyRelay
) -> None:
    first.refuse()
    route = f"failover({named(first, 'first')} {named(second, 'second')})"
    outbox = Outbox(route, engine=engine, worker=QUICK)
    receipt = enqueue(outbox, engine, *(f"r{n}@example.com" for n in range(30)))
    outbox.worker().run(until_empty=True)
    assert states(outbox, engine, receipt) == {RecipientState.ACCEPTED}
    assert len(second.accepted) == 30
    outbox.close()


def test_a_bad_address_does_not_trip_failover(
    engine: Engine, first: FaultyRelay, second: FaultyRelay
) -> None:
    first.on(Phase.RCPT, "550 5.1.1 no such user", address="r0@example.com")
    first.on(Phase.RCPT, "550 5.1.1 no such user", address="r1@example.com")
    first.on(Phase.RCPT, "550 5.1.1 no such user", address="r2@example.com")
    route = f"failover({named(first, 'first')} {named(second, 'second')})"
    outbox = Outbox(route, engine=engine, worker=QUICK)
    enqueue(outbox, engine, *(f"r{n}@example.com" for n in range(30)))
    outbox.worker().drain()
    assert len(first.accepted) == 27
    assert second.accepted == []
    outbox.close()


def test_round_robin_shares_mail_among_relays(
    engine: Engine, first: FaultyRelay, second: FaultyRelay
) -> None:
    route = f"roundrobin({named(first, 'first')} {named(second, 'second')})"
    outbox = Outbox(route, engine=engine, worker=QUICK)
    enqueue(outbox, engine, *(f"r{n}@example.com" for n in range(40)))
    outbox.worker().drain()
    assert len(first.accepted) == len(second.accepted) == 20
    outbox.close()


def test_wrong_credentials_rest_the_relay_and_cost_no_try(
    engine: Engine, first: FaultyRelay, second: FaultyRelay
) -> None:
    first.on(Phase.MAIL, "535 5.7.8 authentication failed")
    outbox = Outbox(first.url, engine=engine, worker=QUICK)
    receipt = enqueue(outbox, engine, *(f"r{n}@example.com" for n in range(100)), retry_delays_s=[])
    outbox.worker().drain()
    assert states(outbox, engine, receipt) <= {RecipientState.DEFERRED, RecipientState.QUEUED}
    first.behave()
    outbox.worker().run(until_empty=True)
    assert states(outbox, engine, receipt) == {RecipientState.ACCEPTED}
    outbox.close()


def test_an_unknown_relay_waits_for_a_worker_that_knows_it(
    engine: Engine, first: FaultyRelay
) -> None:
    outbox = Outbox({"main": first.url}, engine=engine, worker=QUICK)
    receipt = enqueue(outbox, engine, "ada@example.com", relay="nowhere")
    outbox.worker().drain()
    with Session(engine) as session:
        [ada] = outbox.status(session, receipt).recipients
    assert ada.state == RecipientState.DEFERRED
    assert ada.reply is not None
    assert "'nowhere'" in ada.reply
    assert "main" in ada.reply
    outbox.close()


def test_a_relays_rate_is_kept(engine: Engine, first: FaultyRelay) -> None:
    outbox = Outbox(f"{first.url}&rate=5/m", engine=engine, worker=QUICK)
    receipt = enqueue(outbox, engine, *(f"r{n}@example.com" for n in range(12)))
    outbox.worker().drain()
    assert len(first.accepted) == 5
    assert states(outbox, engine, receipt) <= {
        RecipientState.ACCEPTED,
        RecipientState.DEFERRED,
        RecipientState.QUEUED,
    }
    outbox.close()


def test_a_domains_rate_does_not_hold_up_other_domains(engine: Engine, first: FaultyRelay) -> None:
    outbox = Outbox(f"{first.url}&domain_rate=2/m", engine=engine, worker=QUICK)
    busy = [f"r{n}@busy.example" for n in range(10)]
    calm = [f"r@calm{n}.example" for n in range(10)]
    enqueue(outbox, engine, *busy, *calm)
    outbox.worker().drain()
    domains = [mail.recipients[0].rpartition("@")[2] for mail in first.accepted]
    assert domains.count("busy.example") == 2
    assert len(domains) == 12
    outbox.close()


def test_a_rule_that_names_no_relay_is_refused() -> None:
    with pytest.raises(ConfigError, match="the relay other, which does not exist; known are: main"):
        RoutingTable.of({"main": "smtp://localhost?tls=off"}, by_lane={"bulk": "other"})
    with pytest.raises(ConfigError, match="a lane must be one of"):
        RoutingTable.of({"main": "smtp://localhost?tls=off"}, by_lane={"slow": "main"})
