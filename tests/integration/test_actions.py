"""Cancelling, requeueing, resolving and suppressing, while workers go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import Any

import pytest
from sqlalchemy import URL, Connection, Engine, select, update
from sqlalchemy.orm import Session

from postroom.errors import InvalidAddress, MessageError, UnknownMessage
from postroom.states import TRANSITIONS, OnDoubt, RecipientState
from postroom.storage import actions, schema
from postroom.storage import engine as engines
from postroom.storage.actions import CancelResult
from postroom.storage.engine import read_transaction, write_transaction
from postroom.storage.queue.records import Claim, ClaimRequest, OutcomeRecord
from postroom.storage.tables import Tables
from tests.integration.mailroom import Mailroom

S = RecipientState

ENDED = [S.REJECTED, S.EXPIRED, S.CANCELLED, S.SUPPRESSED, S.IN_DOUBT]


@pytest.fixture
def mailroom(worker_engine: Engine, tables: Tables) -> Mailroom:
    return Mailroom(worker_engine, tables)


def _cancel(mailroom: Mailroom, message_id: int) -> CancelResult:
    with write_transaction(mailroom.engine) as connection:
        return actions.cancel(connection, mailroom.tables, message_id)


def _requeue(mailroom: Mailroom, message_id: int, *addresses: str) -> tuple[str, ...]:
    with write_transaction(mailroom.engine) as connection:
        return actions.retry(connection, mailroom.tables, message_id, addresses or None)


def _resolve(mailroom: Mailroom, message_id: int, *addresses: str, sent: bool) -> tuple[str, ...]:
    with write_transaction(mailroom.engine) as connection:
        return actions.resolve(
            connection, mailroom.tables, message_id, sent=sent, addresses=addresses or None
        )


def _place(mailroom: Mailroom, message_id: int) -> Any:
    """Return the queue's row for the one recipient of a message."""
    queue = mailroom.tables.queue
    with read_transaction(mailroom.engine) as connection:
        return connection.execute(select(queue).where(queue.c.message_id == message_id)).one()


# -- cancel -----------------------------------------------------------------------------------


def test_what_waits_is_cancelled_and_never_claimed(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("b@example.com", "a@example.com")
    assert _cancel(mailroom, message_id) == CancelResult(
        cancelled=("b@example.com", "a@example.com"), too_late=()
    )
    assert set(mailroom.states(message_id).values()) == {S.CANCELLED}
    assert mailroom.claim() == []


@pytest.mark.parametrize("state", [S.DEFERRED, S.IN_DOUBT])
def test_what_waits_for_another_try_is_cancelled(mailroom: Mailroom, state: RecipientState) -> None:
    message_id = mailroom.enqueue("a@example.com")
    mailroom.bring_to(message_id, state)
    assert _cancel(mailroom, message_id).cancelled == ("a@example.com",)
    one = mailroom.only(message_id)
    assert (one.state, one.due_at, one.attempt_count) == (S.CANCELLED, None, 1)


def test_only_the_message_that_was_named_is_cancelled(mailroom: Mailroom) -> None:
    other = mailroom.enqueue("a@example.com")
    _cancel(mailroom, mailroom.enqueue("a@example.com"))
    assert mailroom.only(other).state is S.QUEUED


def test_it_is_too_late_for_what_was_sent_is_on_the_wire_or_held_in_doubt(
    mailroom: Mailroom,
) -> None:
    message_id = mailroom.enqueue(*(f"{name}@example.com" for name in "abcde"))
    accepted, doubtful, rejected, held, released = mailroom.claim()
    mailroom.record(accepted, S.ACCEPTED)
    mailroom.record(doubtful, S.IN_DOUBT)
    mailroom.record(rejected, S.REJECTED)
    with write_transaction(mailroom.engine) as connection:
        mailroom.ledger.release(connection, [released])
    assert _cancel(mailroom, message_id) == CancelResult(
        cancelled=("e@example.com",), too_late=("a@example.com", "b@example.com", "d@example.com")
    )
    assert mailroom.states(message_id)[held.address] is S.SENDING


def test_a_lease_that_ran_out_is_cancelled_but_accepted_still_wins(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("a@example.com")
    (claim,) = mailroom.claim()
    mailroom.let_leases_run_out()
    assert _cancel(mailroom, message_id).cancelled == ("a@example.com",)
    mailroom.record(claim, S.DEFERRED, due_in_s=60.0)
    assert mailroom.only(message_id).state is S.CANCELLED
    mailroom.record(claim, S.ACCEPTED)
    assert mailroom.only(message_id).state is S.ACCEPTED


def test_what_is_to_be_held_in_doubt_is_cancelled_until_its_intent_is_committed(
    mailroom: Mailroom,
) -> None:
    message_id = mailroom.enqueue("a@example.com", on_doubt=OnDoubt.HOLD)
    (claim,) = mailroom.claim()
    assert _cancel(mailroom, message_id).cancelled == ("a@example.com",)
    assert not mailroom.intend(claim)


@pytest.mark.parametrize("lease", ["lasts", "ran out"])
def test_an_intent_that_was_committed_is_too_late(mailroom: Mailroom, lease: str) -> None:
    message_id = mailroom.enqueue("a@example.com", on_doubt=OnDoubt.HOLD)
    (claim,) = mailroom.claim()
    assert mailroom.intend(claim)
    if lease == "ran out":
        mailroom.let_leases_run_out()
    assert _cancel(mailroom, message_id) == CancelResult(cancelled=(), too_late=("a@example.com",))


def test_cancelling_twice_cancels_nobody_the_second_time(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("a@example.com")
    _cancel(mailroom, message_id)
    assert _cancel(mailroom, message_id) == CancelResult(cancelled=(), too_late=())


def test_a_rollback_takes_the_cancellation_back(mailroom: Mailroom, session: Session) -> None:
    message_id = mailroom.enqueue("a@example.com")
    assert actions.cancel(session, mailroom.tables, message_id).cancelled
    session.rollback()
    assert len(mailroom.claim()) == 1


# -- requeue ----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ENDED)
def test_what_ended_is_queued_anew(mailroom: Mailroom, state: RecipientState) -> None:
    message_id = mailroom.enqueue("a@example.com")
    mailroom.bring_to(message_id, S.DEFERRED, due_in_s=-1.0)
    mailroom.bring_to(message_id, state)
    assert _requeue(mailroom, message_id) == ("a@example.com",)
    assert mailroom.only(message_id).state is S.QUEUED
    place = _place(mailroom, message_id)
    assert (place.lease_token, place.claim_count, place.try_count, bool(place.send_intent)) == (
        None,
        0,
        0,
        False,
    )
    (claim,) = mailroom.claim()
    assert (claim.claim_count, claim.try_count) == (1, 0)


def test_what_waits_for_a_later_try_is_due_now(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("a@example.com")
    mailroom.bring_to(message_id, S.DEFERRED)
    assert mailroom.claim() == []
    assert _requeue(mailroom, message_id) == ("a@example.com",)
    assert mailroom.only(message_id).state is S.DEFERRED
    assert len(mailroom.claim()) == 1


def test_what_is_due_already_keeps_its_place_in_the_line(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("a@example.com")
    before = _place(mailroom, message_id).due_at
    assert _requeue(mailroom, message_id) == ()
    assert _place(mailroom, message_id).due_at == before


def test_mail_that_is_scheduled_stays_so(mailroom: Mailroom) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    message_id = mailroom.enqueue("a@example.com", scheduled_at=tomorrow)
    assert _requeue(mailroom, message_id) == ()
    _cancel(mailroom, message_id)
    assert _requeue(mailroom, message_id) == ("a@example.com",)
    assert mailroom.only(message_id).due_at == pytest.approx(
        tomorrow, abs=timedelta(milliseconds=1)
    )


def test_what_was_accepted_is_never_sent_again(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("a@example.com")
    mailroom.bring_to(message_id, S.ACCEPTED)
    assert _requeue(mailroom, message_id) == ()
    assert mailroom.claim() == []


def test_what_a_worker_holds_is_left_to_it(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("a@example.com")
    (claim,) = mailroom.claim()
    assert _requeue(mailroom, message_id) == ()
    assert _place(mailroom, message_id).lease_token == claim.lease_token


def test_an_intent_survives_a_requeue(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("a@example.com", on_doubt=OnDoubt.HOLD)
    (claim,) = mailroom.claim()
    mailroom.intend(claim)
    mailroom.let_leases_run_out()
    assert _requeue(mailroom, message_id) == ()
    (again,) = mailroom.claim(token=2)
    assert again.has_intent


def test_a_recipient_that_fell_out_of_the_queue_is_put_back(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("a@example.com")
    with write_transaction(mailroom.engine) as connection:
        connection.execute(mailroom.tables.queue.delete())
    assert _requeue(mailroom, message_id) == ("a@example.com",)
    assert len(mailroom.claim()) == 1


def test_only_the_addresses_that_were_named_are_tried_again(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("a@example.com", "b@example.com")
    mailroom.bring_to(message_id, S.REJECTED)
    assert _requeue(mailroom, message_id, "Bee <B@EXAMPLE.com>", "no-recipient@example.com") == (
        "b@example.com",
    )
    assert mailroom.states(message_id) == {"a@example.com": S.REJECTED, "b@example.com": S.QUEUED}


# -- resolve ----------------------------------------------------------------------------------


@pytest.mark.parametrize("on_doubt", OnDoubt)
def test_what_is_resolved_as_sent_is_accepted_and_not_sent_again(
    mailroom: Mailroom, on_doubt: OnDoubt
) -> None:
    message_id = mailroom.enqueue("a@example.com", on_doubt=on_doubt)
    due_in_s = -1.0 if on_doubt is OnDoubt.RESEND else None
    mailroom.bring_to(message_id, S.IN_DOUBT, due_in_s=due_in_s)
    assert _resolve(mailroom, message_id, sent=True) == ("a@example.com",)
    one = mailroom.only(message_id)
    assert (one.state, one.reply, one.fault) == (S.ACCEPTED, "resolved as sent", None)
    assert mailroom.claim() == []


@pytest.mark.parametrize("on_doubt", OnDoubt)
def test_what_is_resolved_as_unsent_is_due_now(mailroom: Mailroom, on_doubt: OnDoubt) -> None:
    message_id = mailroom.enqueue("a@example.com", on_doubt=on_doubt)
    due_in_s = 900.0 if on_doubt is OnDoubt.RESEND else None
    mailroom.bring_to(message_id, S.IN_DOUBT, due_in_s=due_in_s)
    assert _resolve(mailroom, message_id, sent=False) == ("a@example.com",)
    assert mailroom.only(message_id).state is S.QUEUED
    (claim,) = mailroom.claim()
    assert not claim.has_intent


@pytest.mark.parametrize("sent", [True, False])
def test_only_what_is_in_doubt_is_resolved(mailroom: Mailroom, sent: bool) -> None:
    message_id = mailroom.enqueue(*(f"{name}@example.com" for name in "abcd"))
    accepted, rejected, deferred, doubtful = mailroom.claim()
    mailroom.record(accepted, S.ACCEPTED)
    mailroom.record(rejected, S.REJECTED)
    mailroom.record(deferred, S.DEFERRED, due_in_s=60.0)
    mailroom.record(doubtful, S.IN_DOUBT)
    assert _resolve(mailroom, message_id, sent=sent) == ("d@example.com",)
    assert list(mailroom.states(message_id).values())[:3] == [S.ACCEPTED, S.REJECTED, S.DEFERRED]
    assert len(mailroom.claim()) == (0 if sent else 1)


@pytest.mark.parametrize("sent", [True, False])
def test_what_is_being_sent_again_already_is_not_resolved(mailroom: Mailroom, sent: bool) -> None:
    message_id = mailroom.enqueue("a@example.com")
    mailroom.bring_to(message_id, S.IN_DOUBT, due_in_s=-1.0)
    mailroom.claim()
    assert _resolve(mailroom, message_id, sent=sent) == ()
    assert mailroom.only(message_id).state is S.SENDING


def test_only_the_addresses_that_were_named_are_resolved(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("a@example.com", "b@example.com")
    mailroom.bring_to(message_id, S.IN_DOUBT, due_in_s=None)
    assert _resolve(mailroom, message_id, "A@example.com", sent=True) == ("a@example.com",)
    assert mailroom.states(message_id) == {"a@example.com": S.ACCEPTED, "b@example.com": S.IN_DOUBT}


# -- suppress ---------------------------------------------------------------------------------


def test_every_spelling_of_an_address_is_suppressed(mailroom: Mailroom) -> None:
    mailroom.enqueue("ann@xn--bcher-kva.example")
    with write_transaction(mailroom.engine) as connection:
        actions.suppress(connection, mailroom.tables, "Ann <ANN@Bücher.example>", "bounced")
    (claim,) = mailroom.claim()
    assert claim.suppression_reason == "bounced"


def test_a_second_reason_replaces_the_first(mailroom: Mailroom) -> None:
    mailroom.enqueue("a@example.com")
    with write_transaction(mailroom.engine) as connection:
        for reason in ("bounced", "complained"):
            actions.suppress(connection, mailroom.tables, "a@example.com", reason)
    assert mailroom.claim()[0].suppression_reason == "complained"
    assert mailroom.count("suppression") == 1


def test_what_is_suppressed_no_more_is_said_to_have_been(mailroom: Mailroom) -> None:
    with write_transaction(mailroom.engine) as connection:
        actions.suppress(connection, mailroom.tables, "a@example.com", "bounced")
        assert actions.unsuppress(connection, mailroom.tables, "A@example.com")
        assert not actions.unsuppress(connection, mailroom.tables, "a@example.com")
    mailroom.enqueue("a@example.com")
    assert mailroom.claim()[0].suppression_reason is None


def test_suppressing_keeps_the_moment_in_utc(mailroom: Mailroom) -> None:
    with write_transaction(mailroom.engine) as connection:
        actions.suppress(connection, mailroom.tables, "a@example.com", "bounced")
        suppressed_at = connection.scalar(select(mailroom.tables.suppression.c.created_at))
    assert abs(suppressed_at - datetime.now(UTC)) < timedelta(seconds=30)


@pytest.mark.parametrize(
    ("address", "reason", "error"),
    [
        ("nobody", "bounced", InvalidAddress),
        ("a@example.com,b@example.com", "bounced", InvalidAddress),
        ("a@example.com", "bounced\r\nBcc: x", MessageError),
        ("a@example.com", "", MessageError),
    ],
)
def test_a_wrong_address_or_reason_is_refused(
    mailroom: Mailroom, address: str, reason: str, error: type[Exception]
) -> None:
    with pytest.raises(error), write_transaction(mailroom.engine) as connection:
        actions.suppress(connection, mailroom.tables, address, reason)
    assert mailroom.count("suppression") == 0


# -- every decision ---------------------------------------------------------------------------


def test_a_message_that_does_not_exist_is_said_to(mailroom: Mailroom) -> None:
    for decide in (_cancel, _requeue):
        with pytest.raises(UnknownMessage):
            decide(mailroom, 4711)
    with pytest.raises(UnknownMessage):
        _resolve(mailroom, 4711, sent=True)


def test_wrong_addresses_are_all_named(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("a@example.com")
    with pytest.raises(InvalidAddress, match=r"one.*two"):
        _requeue(mailroom, message_id, "one", "a@example.com", "two")
    with (
        pytest.raises(MessageError, match="list"),
        write_transaction(mailroom.engine) as connection,
    ):
        actions.retry(connection, mailroom.tables, message_id, "a@example.com")


@pytest.mark.parametrize("before", [state for state in S if state is not S.SENDING])
def test_decisions_change_states_only_as_they_may(
    mailroom: Mailroom, before: RecipientState
) -> None:
    changes = (
        _cancel,
        _requeue,
        lambda room, id: _resolve(room, id, sent=True),
        lambda room, id: _resolve(room, id, sent=False),
    )
    for change in changes:
        message_id = mailroom.enqueue("a@example.com")
        mailroom.bring_to(message_id, before)
        updated_at = mailroom.only(message_id).updated_at
        change(mailroom, message_id)
        after = mailroom.only(message_id)
        assert after.state is before or after.state in TRANSITIONS[before]
        assert (after.state is before) == (after.updated_at == updated_at)
        with write_transaction(mailroom.engine) as connection:
            connection.execute(mailroom.tables.queue.delete())


def test_many_recipients_are_decided_for_in_portions(
    mailroom: Mailroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("postroom.storage.actions._IDS_A_STATEMENT", 3)
    addresses = tuple(f"u{n}@example.com" for n in range(8))
    message_id = mailroom.enqueue(*addresses)
    assert _cancel(mailroom, message_id).cancelled == addresses
    assert _requeue(mailroom, message_id) == addresses
    assert len(mailroom.claim()) == 8


# -- at the same time -------------------------------------------------------------------------


@contextmanager
def _claiming(mailroom: Mailroom) -> Iterator[Connection]:
    """A worker in the middle of a claim, on PostgreSQL: leased, and not yet committed."""
    with write_transaction(mailroom.engine) as connection:
        mailroom.ledger.claim(connection, ClaimRequest(limits={1: 1}, lease_s=60.0, lease_token=7))
        yield connection


def test_no_decision_waits_for_a_worker_that_is_claiming(
    postgresql_url: URL, tables: Tables
) -> None:
    engine = engines.worker_engine(postgresql_url, deadline_s=5.0)
    schema.create(engine)
    mailroom = Mailroom(engine, tables)
    message_id = mailroom.enqueue("a@example.com", "b@example.com")
    with _claiming(mailroom):
        assert _cancel(mailroom, message_id) == CancelResult(
            cancelled=("b@example.com",), too_late=("a@example.com",)
        )
    assert mailroom.states(message_id) == {
        "a@example.com": S.SENDING,
        "b@example.com": S.CANCELLED,
    }
    engine.dispose()


def test_nobody_is_both_cancelled_and_claimed(mailroom: Mailroom) -> None:
    ids = [mailroom.enqueue(*(f"u{n}@example.com" for n in range(20))) for _ in range(6)]
    claimed: set[int] = set()
    start = threading.Barrier(2)

    def work() -> None:
        start.wait()
        while mailroom.count("queue") > len(claimed):
            claimed.update(claim.recipient_id for claim in mailroom.claim(7))

    def decide() -> list[CancelResult]:
        start.wait()
        return [_cancel(mailroom, message_id) for message_id in ids]

    with ThreadPoolExecutor(2) as pool:
        working, deciding = pool.submit(work), pool.submit(decide)
        working.result()
        answers = deciding.result()
    for message_id, answer in zip(ids, answers, strict=True):
        for one in mailroom.status(message_id).recipients:
            was_cancelled = one.address in answer.cancelled
            assert was_cancelled != (one.id in claimed)
            assert (one.state is S.CANCELLED) == was_cancelled
            assert (one.address in answer.too_late) == (one.state is S.SENDING)


def test_a_requeue_and_a_claim_at_once_send_one_copy(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue(*(f"u{n}@example.com" for n in range(40)))
    mailroom.bring_to(message_id, S.DEFERRED, due_in_s=-1.0)
    start = threading.Barrier(3)
    claimed: list[int] = []

    def work(token: int) -> None:
        start.wait()
        while len(claimed) < 40:
            claimed.extend(claim.recipient_id for claim in mailroom.claim(5, token=token))

    def decide() -> None:
        start.wait()
        for _ in range(10):
            _requeue(mailroom, message_id)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work, 1), pool.submit(work, 2), pool.submit(decide)]:
            done.result()
    assert sorted(claimed) == sorted(one.id for one in mailroom.status(message_id).recipients)


def test_resolved_as_sent_or_sent_again_but_never_both(mailroom: Mailroom) -> None:
    addresses = tuple(f"u{n}@example.com" for n in range(40))
    message_id = mailroom.enqueue(*addresses)
    mailroom.bring_to(message_id, S.IN_DOUBT, due_in_s=-1.0)
    start = threading.Barrier(2)
    again: set[str] = set()

    def work() -> None:
        start.wait()
        while mailroom.count("queue") > len(again):
            again.update(claim.address for claim in mailroom.claim(5))

    def decide() -> set[str]:
        start.wait()
        return {
            address
            for one in addresses
            for address in _resolve(mailroom, message_id, one, sent=True)
        }

    with ThreadPoolExecutor(2) as pool:
        working, deciding = pool.submit(work), pool.submit(decide)
        working.result()
        resolved = deciding.result()
    assert resolved.isdisjoint(again)
    assert resolved | again == set(addresses)


def test_an_old_lease_does_not_stop_a_decision(mailroom: Mailroom) -> None:
    message_id = mailroom.enqueue("a@example.com")
    mailroom.claim()
    with write_transaction(mailroom.engine) as connection:
        connection.execute(update(mailroom.tables.queue).values(due_at=1.0))
    assert _cancel(mailroom, message_id).cancelled == ("a@example.com",)


@pytest.mark.parametrize(
    "decision", ["cancel", "requeue", "resolve as sent", "resolve as not sent"]
)
def test_a_decision_and_a_late_outcome_do_not_wait_for_each_other(
    postgresql_url: URL, tables: Tables, decision: str, full: bool
) -> None:
    """Both write the same recipients at once; PostgreSQL would end one of two that wait so."""
    setting = "ALTER DATABASE {} SET deadlock_timeout = '20ms'"
    engine = engines.worker_engine(postgresql_url)
    schema.create(engine)
    with write_transaction(engine) as connection:
        connection.exec_driver_sql(setting.format(postgresql_url.database))
    engine.dispose()  # for new connections
    mailroom = Mailroom(engine, tables)
    decide = {
        "cancel": partial(_cancel, mailroom),
        "requeue": partial(_requeue, mailroom),
        "resolve as sent": partial(_resolve, mailroom, sent=True),
        "resolve as not sent": partial(_resolve, mailroom, sent=False),
    }[decision]
    random = Random(7)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(200 if full else 25):
            message_id, late = _overtaken(mailroom)
            random.shuffle(late)
            start = threading.Barrier(2)
            recording = pool.submit(_at, start, partial(_record, mailroom, late))
            deciding = pool.submit(_at, start, partial(decide, message_id))
            recording.result()
            deciding.result()
            # A relay's 2xx is a fact: it wins whoever came first.
            assert set(mailroom.states(message_id).values()) == {S.ACCEPTED}
    engine.dispose()


def _overtaken(mailroom: Mailroom) -> tuple[int, list[Claim]]:
    """Return a message and the claims of its first worker, which a second one has overtaken.

    By now some recipients are rejected, and the others in doubt, leased to nobody any more.
    """
    # Names in another order than ids: the one of an index on them.
    message_id = mailroom.enqueue(*(f"{n * 7 % 40:02}@example.com" for n in range(40)))
    late = mailroom.claim(token=1)
    mailroom.let_leases_run_out()
    second = mailroom.claim(token=2)
    results = [
        OutcomeRecord(claim=claim, state=S.REJECTED, attempted_at=datetime.now(UTC))
        if claim.recipient_id % 2
        else OutcomeRecord(
            claim=claim, state=S.IN_DOUBT, attempted_at=datetime.now(UTC), due_in_s=-1.0
        )
        for claim in second
    ]
    with write_transaction(mailroom.engine) as connection:
        mailroom.ledger.record(connection, results)
    mailroom.claim(token=3)
    mailroom.let_leases_run_out()
    return message_id, late


def _record(mailroom: Mailroom, claims: list[Claim]) -> None:
    now = datetime.now(UTC)
    results = [
        OutcomeRecord(claim=claim, state=S.ACCEPTED, attempted_at=now, relay="main")
        for claim in claims
    ]
    with write_transaction(mailroom.engine) as connection:
        mailroom.ledger.record(connection, results)


def _at(start: threading.Barrier, call: Callable[[], object]) -> None:
    start.wait()
    call()
