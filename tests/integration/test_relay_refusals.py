"""What refusals teach a worker about a relay; nothing is lost, doubled or delayed by that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from postroom import Fault, Message, Outbox, Phase, Receipt, WorkerConfig
from postroom.storage.queries.messages import Attempt
from postroom.testing import FaultyRelay, ServerOptions

QUICK = WorkerConfig(poll_interval_s=0.05, lease_s=5)


class Sending:
    """An outbox over one relay."""

    def __init__(self, engine: Engine, relay: FaultyRelay, options: str = "") -> None:
        self.engine = engine
        self.outbox = Outbox(
            f"{relay.url}{options}", engine=engine, sender="shop@example.com", worker=QUICK
        )

    def enqueue(self, *to: str, shared: bool = False) -> Receipt:
        with Session(self.engine) as session, session.begin():
            message = Message(subject="hello", text="Thank you.\n", shared=shared)
            return self.outbox.enqueue(session, message, to=to)

    def until_empty(self) -> None:
        self.outbox.worker().run(until_empty=True)

    def states(self, receipt: Receipt) -> Counter[str]:
        with Session(self.engine) as session:
            recipients = self.outbox.status(session, receipt).recipients
        return Counter(str(one.state) for one in recipients)

    def attempts(self, receipt: Receipt) -> list[Attempt]:
        with Session(self.engine) as session:
            return list(self.outbox.attempts(session, receipt))


@pytest.fixture
def relay() -> Iterator[FaultyRelay]:
    with FaultyRelay() as relay:
        yield relay


def people(count: int) -> list[str]:
    return [f"r{number}@example.com" for number in range(count)]


def received(relay: FaultyRelay) -> list[str]:
    return sorted(address for mail in relay.accepted for address in mail.recipients)


def test_a_refusal_of_early_commands_costs_no_mail_a_try(engine: Engine) -> None:
    with FaultyRelay(ServerOptions(refuses_early=True)) as relay:
        sending = Sending(engine, relay)
        receipt = sending.enqueue(*people(100))
        sending.until_empty()
        assert sending.states(receipt) == {"accepted": 100}
        assert len(sending.attempts(receipt)) == 100
        assert received(relay) == sorted(people(100))
        before = relay.connections
        assert before <= 8
        # The next worker of this process knows it already.
        sending.enqueue(*people(20))
        sending.until_empty()
        assert relay.connections <= before + 4
        sending.outbox.close()


def test_many_connections_learn_from_one_that_commands_may_not_come_early(engine: Engine) -> None:
    with FaultyRelay(ServerOptions(refuses_early=True, delay_s=0.01)) as relay:
        sending = Sending(engine, relay, "&connections=20")
        receipt = sending.enqueue(*people(100))
        sending.until_empty()
        assert sending.states(receipt) == {"accepted": 100}
        assert len(sending.attempts(receipt)) == 100
        sending.outbox.close()


def test_a_shared_mail_keeps_to_the_limit_that_was_announced(engine: Engine) -> None:
    options = ServerOptions(extensions=("PIPELINING", "LIMITS RCPTMAX=7"))
    with FaultyRelay(options) as relay:
        sending = Sending(engine, relay)
        receipt = sending.enqueue(*people(100), shared=True)
        sending.until_empty()
        assert sending.states(receipt) == {"accepted": 100}
        assert len(sending.attempts(receipt)) == 100
        assert received(relay) == sorted(people(100))
        assert max(len(mail.recipients) for mail in relay.accepted) == 7
        sending.outbox.close()


@pytest.mark.parametrize("phase", [Phase.DATA, Phase.DOT])
def test_a_shared_mail_that_is_for_too_many_goes_out_in_parts(
    engine: Engine, relay: FaultyRelay, phase: Phase
) -> None:
    relay.on(phase, "554 5.5.3 Too many recipients", times=2)
    sending = Sending(engine, relay, "&connections=1")
    receipt = sending.enqueue(*people(12), shared=True)
    sending.until_empty()
    assert sending.states(receipt) == {"accepted": 12}
    assert len(sending.attempts(receipt)) == 12
    assert received(relay) == sorted(people(12))
    assert max(len(mail.recipients) for mail in relay.accepted) <= 6
    sending.outbox.close()


def test_a_relay_that_finds_every_number_too_many_is_not_asked_for_ever(
    engine: Engine, relay: FaultyRelay
) -> None:
    relay.on(Phase.DATA, "554 Too many recipients")
    sending = Sending(engine, relay)
    receipt = sending.enqueue(*people(8), shared=True)
    sending.outbox.worker().drain()
    assert sending.states(receipt) == {"deferred": 8}
    assert len(sending.attempts(receipt)) == 8
    sending.outbox.close()


def test_where_no_connection_stands_a_closed_door_is_the_relays_fault(
    engine: Engine, relay: FaultyRelay
) -> None:
    relay.on(Phase.GREETING, "421 4.7.0 too many connections", times=4)
    sending = Sending(engine, relay)
    receipt = sending.enqueue(*people(4))
    sending.until_empty()
    assert sending.states(receipt) == {"accepted": 4}
    refused = [one for one in sending.attempts(receipt) if one.outcome == "deferred"]
    assert refused
    assert {(one.fault, one.phase) for one in refused} == {(Fault.RELAY, Phase.GREETING)}
    sending.outbox.close()


def test_while_a_relay_rests_nothing_is_said_to_it(engine: Engine, relay: FaultyRelay) -> None:
    """Neither on the connections that stand: a limit of messages a minute is no reason to close."""
    relay.on(Phase.MAIL, "450 4.7.1 Error: too much mail from 127.0.0.1")
    sending = Sending(engine, relay)
    receipt = sending.enqueue(*people(100))
    sending.outbox.worker().drain()
    # Three faults in a row make it rest; the four connections may each be in the midst of one.
    assert 3 <= len(sending.attempts(receipt)) <= 7
    sending.outbox.close()
