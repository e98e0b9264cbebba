"""What a sender does with its transactions when it may not go on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from random import random
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from postroom.clock import monotonic
from postroom.delivery.claims import ClaimBatch
from postroom.delivery.composer import MessageComposer
from postroom.delivery.mail_transaction import MailTransaction
from postroom.delivery.outcome_buffer import CommitGate, OutcomeBuffer
from postroom.delivery.outcomes import OutcomePolicy
from postroom.delivery.sender import Sender, SenderContext
from postroom.delivery.sender_pool import LaneQueue, SenderPool
from postroom.delivery.unit_of_work import UnitOfWork
from postroom.errors import Disconnected
from postroom.message.envelope import Envelope
from postroom.relays.pool import ConnectionPool
from postroom.relays.relay import Relay
from postroom.smtp.envelope_exchange import EnvelopeReplies
from postroom.smtp.reply import Reply
from postroom.smtp.transport import Transport
from postroom.states import Lane, Phase
from tests.unit.claims import claim, stored_message


class Willing:
    """A connection to a relay that takes everything up to the dot."""

    transactions = 0
    accepts_more = True
    is_usable = True
    transcript = ""
    refuses_early = False
    max_recipients = None

    def local_refusal(self, envelope: Envelope) -> None: ...
    def send_envelope(self, envelope: Envelope) -> None: ...
    def send_content(self, chunks: Iterable[bytes]) -> None: ...
    def quit(self) -> None: ...
    def cut(self) -> None: ...
    def close(self) -> None:
        self.is_usable = False

    def read_envelope_replies(self) -> EnvelopeReplies:
        good = Reply(code=250)
        go_on = Reply(code=354)
        return EnvelopeReplies(
            mail=good, recipients=(good,), data=go_on, accepted=1, is_ready_for_content=True
        )

    def end_data(self, following: Envelope | None = None) -> tuple[Reply, ...]:
        raise AssertionError("expected no dot behind a closed gate")


def transaction(number: int, lease_s: float = 60) -> MailTransaction:
    one = claim(number)
    batch = ClaimBatch([one], lease_token=1, lease_s=lease_s, claimed_at=monotonic())
    return MailTransaction(composer=MessageComposer(stored_message()), claims=(one,), batch=batch)


class Work:
    """A sender over ``transport``, and what becomes of its transactions."""

    def __init__(self, transport: Transport | Exception, *, gate_of: int = 100) -> None:
        relay = Relay.parse("smtp://relay.example.com?tls=off")
        self.connections = ConnectionPool(connect=self._connect)
        self.queue = LaneQueue({lane.rank: 1 for lane in Lane})
        self.gate = CommitGate(max_uncommitted=gate_of, clock=monotonic)
        self.buffer = OutcomeBuffer()
        self.policy = OutcomePolicy(in_doubt_retry_s=60, random=random)
        self._transport = transport
        context = SenderContext(
            buffer=self.buffer,
            gate=self.gate,
            policy=self.policy,
            connections=self.connections,
            keep_connections=False,
        )
        pool = SenderPool(
            relay,
            breaker=self.connections.breaker(relay),
            throttle=self.connections.throttle(relay),
            limit=self.connections.limit(relay),
            queue=self.queue,
            start=lambda _: self.sender,
        )
        self.sender = Sender(pool, context)

    def _connect(self, relay: Relay) -> Transport:
        if isinstance(self._transport, Exception):
            raise self._transport
        return self._transport

    def of(self, *transactions: MailTransaction) -> UnitOfWork:
        """Let the sender take these one after the other; return what it left in the buffer."""
        self.queue.put(transactions)
        while len(self.queue):
            self.sender._take_one()
        return self.buffer.drain()


def test_a_lease_that_runs_out_at_the_gate_gives_back_the_mail_and_the_one_after_it() -> None:
    work = Work(Willing(), gate_of=1)
    work.gate.close()
    work.queue.put([transaction(2)])
    work.sender._deliver(transaction(1, lease_s=0.2))
    assert [one.recipient_id for one in work.buffer.drain().released] == [1]
    assert [one.claims[0].recipient_id for one in work.queue.close()] == [2]


class Accepting(Willing):
    """A connection to a relay that takes everything."""

    def end_data(self, following: Envelope | None = None) -> tuple[Reply, ...]:
        return (Reply(code=250),)


class Unpreparable(MessageComposer):
    """A mail that this machine cannot compose, because of ``error``."""

    def __init__(self, error: Exception) -> None:
        super().__init__(stored_message(retry_delays_s=()))
        self._error = error

    def compose_for(self, claims: Any, budget: Any = None) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError(24, "Too many open files"), "Too many open files"),
        (MemoryError(), "MemoryError"),
        (OperationalError("SELECT", {}, Exception("server closed")), "server closed"),
    ],
)
def test_what_this_machine_has_too_little_of_puts_all_mail_in_hand_off_once(
    error: Exception, said: str
) -> None:
    work = Work(Accepting())
    short = [replace(transaction(number), composer=Unpreparable(error)) for number in range(12)]
    results = work.of(*short).outcomes
    assert {(one.state, one.fault, one.counts_as_try, one.relay) for one in results} == {
        ("deferred", "ourselves", False, None)
    }
    assert all(said in (one.reply or "") for one in results)
    assert {one.due_in_s for one in results} == {5}
    work.of(transaction(1))
    [after] = work.of(short[0]).outcomes
    assert after.due_in_s == 5


class Odd(Willing):
    """A connection on which one call raises what nobody foresaw."""

    def __init__(self, where: str, error: Exception) -> None:
        self.is_usable = True
        setattr(self, where, self._raise)
        self._error = error

    def _raise(self, *_: object) -> Any:
        raise self._error


@pytest.mark.parametrize(
    "where", ["local_refusal", "send_envelope", "read_envelope_replies", "send_content"]
)
@pytest.mark.parametrize("error", [TypeError("odd"), MemoryError(), AssertionError("odd")])
def test_an_unexpected_error_before_the_dot_defers_and_says_what_it_was(
    where: str, error: Exception
) -> None:
    written = Work(Odd(where, error)).of(transaction(1), transaction(2))
    assert [result.claim.recipient_id for result in written.outcomes] == [1, 2]
    for result in written.outcomes:
        assert (result.state, result.fault) == ("deferred", "ourselves")
        assert result.reply is not None
        assert type(error).__name__ in result.reply


def test_an_unexpected_error_behind_the_gate_is_in_doubt_and_the_next_mail_goes_on() -> None:
    work = Work(Odd("end_data", TypeError("odd")))
    written = work.of(transaction(1))
    [result] = written.outcomes
    assert (result.state, result.fault, written.admitted) == ("in_doubt", "ourselves", 1)
    assert result.reply == "unexpected error: TypeError: odd; see the worker's log"


def test_an_unexpected_error_while_connecting_leaves_no_claim_behind() -> None:
    written = Work(KeyError("host")).of(transaction(1), transaction(2))
    assert [result.claim.recipient_id for result in written.outcomes] == [1, 2]
    assert written.outcomes[0].reply == "unexpected error: KeyError: 'host'; see the worker's log"


def test_an_error_while_the_outcome_is_made_lets_the_lease_run_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> Any:
        raise ValueError("no verdict")

    work = Work(Odd("send_envelope", TypeError("odd")))
    monkeypatch.setattr(OutcomePolicy, "apply", fail)
    assert [one.recipient_id for one in work.of(transaction(1)).abandoned] == [1]


def test_an_address_that_breaks_out_of_its_command_harms_nobody_else() -> None:
    class Accepting(Willing):
        def end_data(self, following: Envelope | None = None) -> tuple[Reply, ...]:
            return (Reply(code=250),)

    odd = transaction(2)
    odd.claims[0].address = "ann@example.com>\r\nRCPT TO:<eve@evil.example"
    written = Work(Accepting()).of(transaction(1), odd, transaction(3))
    states = {result.claim.recipient_id: result.state for result in written.outcomes}
    assert states == {1: "accepted", 2: "rejected", 3: "accepted"}


class Dropped(Willing):
    """A connection that was used before, and is closed whenever a mail begins."""

    transactions = 1

    def read_envelope_replies(self) -> EnvelopeReplies:
        raise Disconnected("gone", phase=Phase.MAIL)


class Stale(Willing):
    """A connection that was used before, and on which each mail is answered 421."""

    transactions = 1

    def read_envelope_replies(self) -> EnvelopeReplies:
        closing = Reply(code=421)
        return EnvelopeReplies(
            mail=closing,
            recipients=(None,),
            data=None,
            accepted=0,
            is_ready_for_content=False,
            is_reused=True,
        )


@pytest.mark.parametrize("transport", [Dropped, Stale])
def test_a_connection_dropped_between_mails_is_free_twice_in_a_row_and_then_a_fault(
    transport: type[Willing],
) -> None:
    work = Work(transport())
    work.queue.put([transaction(1)])
    for _ in range(2):
        work.sender._take_one()
        assert work.buffer.drain().outcomes == []
        assert len(work.queue) == 1
    work.sender._take_one()
    [result] = work.buffer.drain().outcomes
    assert (result.state, result.fault, len(work.queue)) == ("deferred", "relay", 0)
