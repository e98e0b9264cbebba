"""The queue store's contract, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, func, select

from postroom.states import Fault, Lane, Phase, RecipientState
from postroom.storage import engine as engines
from postroom.storage.engine import clock_sql, write_transaction
from postroom.storage.queue import queue_for
from postroom.storage.queue.records import Claim, ClaimRequest, OutcomeRecord, QueueStore
from postroom.storage.tables import Tables

NOW = datetime(2026, 5, 4, 12, 30, 15, 123456, tzinfo=UTC)
URGENT, NORMAL, BULK = (lane.rank for lane in Lane)


class QueueHarness:
    """A queue to work on: rows in, rows out, through the store of one database."""

    def __init__(self, engine: Engine, tables: Tables) -> None:
        self.engine = engine
        self.tables = tables
        self.store: QueueStore = queue_for(engine.dialect, tables)

    def add(self, *addresses: str, lane: Lane = Lane.NORMAL, due_in_s: float = -1) -> list[int]:
        t = self.tables
        with self.transaction() as connection:
            message_id = connection.execute(
                t.message.insert().values(
                    content_hash="",
                    message_id_seed="",
                    sender="shop@example.com",
                    lane=lane.value,
                    shared=False,
                    on_doubt="resend",
                    created_at=NOW,
                )
            ).inserted_primary_key[0]
            ids = [
                connection.execute(
                    t.recipient.insert().values(
                        message_id=message_id,
                        address=address,
                        address_key=address,
                        type="to",
                        state="queued",
                        updated_at=NOW,
                    )
                ).inserted_primary_key[0]
                for address in addresses
            ]
            due_at = clock_sql(self.engine.dialect) + due_in_s
            for recipient_id in ids:
                connection.execute(
                    t.queue.insert().values(
                        recipient_id=recipient_id,
                        message_id=message_id,
                        lane=lane.rank,
                        due_at=due_at,
                    )
                )
        return ids

    def claim(self, limit: int = 100, *, lease_s: float = 60, token: int = 1) -> list[Claim]:
        lanes = dict.fromkeys((URGENT, NORMAL, BULK), limit)
        with self.transaction() as connection:
            return self.store.claim(
                connection, ClaimRequest(limits=lanes, lease_s=lease_s, lease_token=token)
            )

    def record(self, *results: OutcomeRecord) -> None:
        with self.transaction() as connection:
            self.store.record(connection, results)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with write_transaction(self.engine) as connection:
            yield connection

    def queue(self, recipient_id: int) -> Any:
        queue = self.tables.queue
        with self.transaction() as connection:
            return connection.execute(
                select(
                    queue, (queue.c.due_at - clock_sql(self.engine.dialect)).label("due_in_s")
                ).where(queue.c.recipient_id == recipient_id)
            ).one_or_none()

    def recipient(self, recipient_id: int) -> Any:
        recipient = self.tables.recipient
        with self.transaction() as connection:
            return connection.execute(select(recipient).where(recipient.c.id == recipient_id)).one()

    def attempts(self, recipient_id: int) -> list[Any]:
        attempt = self.tables.attempt
        with self.transaction() as connection:
            return list(
                connection.execute(
                    select(attempt)
                    .where(attempt.c.recipient_id == recipient_id)
                    .order_by(attempt.c.id)
                )
            )


@pytest.fixture
def harness(worker_engine: Engine, tables: Tables) -> QueueHarness:
    return QueueHarness(worker_engine, tables)


def result(claim: Claim, state: RecipientState, **fields: Any) -> OutcomeRecord:
    return OutcomeRecord(claim=claim, state=state, attempted_at=NOW, relay="main", **fields)


def test_what_is_due_is_claimed_with_its_address(harness: QueueHarness) -> None:
    [first, second] = harness.add("ada@example.com", "bob@example.com")
    claims = harness.claim(token=7)
    assert [claim.recipient_id for claim in claims] == [first, second]
    assert [claim.address for claim in claims] == ["ada@example.com", "bob@example.com"]
    assert {(c.lease_token, c.claim_count, c.try_count, c.has_intent, c.lane) for c in claims} == {
        (7, 1, 0, False, NORMAL)
    }


def test_what_is_due_later_is_not_claimed(harness: QueueHarness) -> None:
    harness.add("ada@example.com", due_in_s=60)
    assert harness.claim() == []


def test_a_claimed_recipient_is_nobody_elses_until_the_lease_is_over(harness: QueueHarness) -> None:
    harness.add("ada@example.com")
    assert len(harness.claim(token=1, lease_s=60)) == 1
    assert harness.claim(token=2) == []


def test_a_lease_that_ran_out_is_simply_due_again(harness: QueueHarness) -> None:
    harness.add("ada@example.com")
    harness.claim(token=1, lease_s=-1)
    [again] = harness.claim(token=2)
    assert (again.lease_token, again.claim_count) == (2, 2)


def test_a_claim_takes_the_longest_due_first_and_no_more_than_asked(harness: QueueHarness) -> None:
    [late] = harness.add("late@example.com", due_in_s=-1)
    [early] = harness.add("early@example.com", due_in_s=-100)
    assert [claim.recipient_id for claim in harness.claim(1)] == [early]
    assert [claim.recipient_id for claim in harness.claim(1)] == [late]


def test_each_lane_has_a_limit_of_its_own(harness: QueueHarness) -> None:
    harness.add("a@example.com", "b@example.com", lane=Lane.BULK)
    harness.add("c@example.com", "d@example.com", lane=Lane.URGENT)
    with harness.transaction() as connection:
        claims = harness.store.claim(
            connection, ClaimRequest(limits={URGENT: 2, BULK: 1}, lease_s=60, lease_token=1)
        )
    assert sorted(claim.lane for claim in claims) == [URGENT, URGENT, BULK]


def test_variables_come_back_as_they_were(harness: QueueHarness) -> None:
    harness.add("ada@example.com")
    recipient = harness.tables.recipient
    with harness.transaction() as connection:
        connection.execute(recipient.update().values(variables={"name": "Åda", "n": [1, None]}))
    [claim] = harness.claim()
    assert claim.variables == {"name": "Åda", "n": [1, None]}


def test_a_suppressed_address_says_why(harness: QueueHarness) -> None:
    harness.add("ada@example.com", "bob@example.com")
    with harness.transaction() as connection:
        connection.execute(
            harness.tables.suppression.insert().values(
                address_key="ada@example.com", reason="asked us to stop", created_at=NOW
            )
        )
    assert [claim.suppression_reason for claim in harness.claim()] == ["asked us to stop", None]


def test_an_accepted_recipient_leaves_the_queue_with_its_reply(harness: QueueHarness) -> None:
    [recipient_id] = harness.add("ada@example.com")
    [claim] = harness.claim()
    harness.record(
        result(
            claim,
            RecipientState.ACCEPTED,
            reply_code=250,
            enhanced_status="2.0.0",
            reply="250 queued",
            phase=Phase.DOT,
            duration_s=0.25,
        )
    )
    assert harness.queue(recipient_id) is None
    stored = harness.recipient(recipient_id)
    assert (
        stored.state,
        stored.attempt_count,
        stored.reply_code,
        stored.enhanced_status,
        stored.reply,
    ) == (
        "accepted",
        1,
        250,
        "2.0.0",
        "250 queued",
    )
    assert stored.updated_at == NOW
    [attempt] = harness.attempts(recipient_id)
    assert (
        attempt.outcome,
        attempt.relay,
        attempt.phase,
        attempt.reply_code,
        attempt.duration_s,
    ) == (
        "accepted",
        "main",
        "dot",
        250,
        0.25,
    )
    assert attempt.attempted_at == NOW


def test_what_a_relay_says_is_kept_within_bounds_whatever_is_in_it(harness: QueueHarness) -> None:
    [recipient_id] = harness.add("ada@example.com")
    [claim] = harness.claim()
    harness.record(
        result(
            claim,
            RecipientState.REJECTED,
            reply="550 \0 \ud800 ü " + "no " * 5000,
            enhanced_status="5.123.4567890",
            transcript="\udfff\0" + "C: NOOP\n" * 5000,
        )
    )
    stored = harness.recipient(recipient_id)
    assert stored.reply.startswith("550 \ufffd ? ü no no")
    assert (len(stored.reply), stored.enhanced_status) == (2000, None)
    [attempt] = harness.attempts(recipient_id)
    assert attempt.transcript.startswith("?\ufffdC: NOOP")
    assert len(attempt.transcript) == 20_000


def test_a_deferred_recipient_is_due_later_and_unclaimed(harness: QueueHarness) -> None:
    [recipient_id] = harness.add("ada@example.com")
    [claim] = harness.claim()
    harness.record(
        result(
            claim,
            RecipientState.DEFERRED,
            due_in_s=300,
            counts_as_try=True,
            fault=Fault.RECIPIENT,
            reply_code=452,
            transcript="<- 452 full",
        )
    )
    row = harness.queue(recipient_id)
    assert 290 < row.due_in_s <= 300
    assert (row.lease_token, row.claim_count, row.try_count) == (None, 0, 1)
    stored = harness.recipient(recipient_id)
    assert (stored.state, stored.fault) == ("deferred", "recipient")
    assert harness.attempts(recipient_id)[0].transcript == "<- 452 full"


def test_a_deferral_that_is_not_the_recipients_fault_does_not_count(harness: QueueHarness) -> None:
    [recipient_id] = harness.add("ada@example.com")
    [claim] = harness.claim()
    harness.record(result(claim, RecipientState.DEFERRED, due_in_s=1, fault=Fault.RELAY))
    assert harness.queue(recipient_id).try_count == 0


def test_only_a_holder_may_defer_or_reject(harness: QueueHarness) -> None:
    [recipient_id] = harness.add("ada@example.com")
    [lost] = harness.claim(token=1, lease_s=-1)
    harness.claim(token=2)
    harness.record(result(lost, RecipientState.REJECTED))
    assert harness.recipient(recipient_id).state == "queued"
    assert harness.queue(recipient_id).lease_token == 2
    assert [attempt.outcome for attempt in harness.attempts(recipient_id)] == ["rejected"]


def test_accepted_wins_whoever_holds_the_claim(harness: QueueHarness) -> None:
    [recipient_id] = harness.add("ada@example.com")
    [first] = harness.claim(token=1, lease_s=-1)
    [second] = harness.claim(token=2)
    harness.record(result(first, RecipientState.ACCEPTED))
    assert harness.recipient(recipient_id).state == "accepted"
    assert harness.queue(recipient_id) is None
    harness.record(result(second, RecipientState.DEFERRED, due_in_s=60))
    assert harness.recipient(recipient_id).state == "accepted"
    assert harness.queue(recipient_id) is None


def test_two_outcomes_of_one_recipient_may_share_a_commit(harness: QueueHarness) -> None:
    [recipient_id] = harness.add("ada@example.com")
    [first] = harness.claim(token=1, lease_s=-1)
    [second] = harness.claim(token=2)
    harness.record(
        result(first, RecipientState.ACCEPTED),
        result(second, RecipientState.DEFERRED, due_in_s=60),
    )
    assert harness.recipient(recipient_id).state == "accepted"
    assert len(harness.attempts(recipient_id)) == 2


def test_what_no_relay_heard_of_leaves_no_attempt(harness: QueueHarness) -> None:
    [recipient_id] = harness.add("ada@example.com")
    [claim] = harness.claim()
    harness.record(
        OutcomeRecord(
            claim=claim, state=RecipientState.EXPIRED, attempted_at=NOW, reply="expired at noon"
        )
    )
    stored = harness.recipient(recipient_id)
    assert (stored.state, stored.attempt_count, stored.reply) == ("expired", 0, "expired at noon")
    assert harness.attempts(recipient_id) == []


def test_what_is_released_is_due_at_once_as_if_never_claimed(
    harness: QueueHarness,
) -> None:
    [recipient_id] = harness.add("ada@example.com")
    claims = harness.claim(lease_s=600)
    with harness.transaction() as connection:
        harness.store.release(connection, claims)
    [again] = harness.claim(token=2)
    assert (again.recipient_id, again.claim_count) == (recipient_id, 1)


def test_a_lost_claim_cannot_be_released(harness: QueueHarness) -> None:
    [recipient_id] = harness.add("ada@example.com")
    lost = harness.claim(token=1, lease_s=-1)
    harness.claim(token=2, lease_s=600)
    with harness.transaction() as connection:
        harness.store.release(connection, lost)
    assert harness.queue(recipient_id).lease_token == 2


def test_a_renewal_extends_what_is_held_and_names_it(harness: QueueHarness) -> None:
    [kept, lost] = harness.add("kept@example.com", "lost@example.com")
    claims = harness.claim(token=1, lease_s=5)
    with harness.transaction() as connection:
        connection.execute(
            harness.tables.queue.update()
            .where(harness.tables.queue.c.recipient_id == lost)
            .values(lease_token=2)
        )
        assert harness.store.renew(connection, claims, 600) == {kept}
    assert harness.queue(kept).due_in_s > 500
    assert harness.queue(lost).due_in_s < 10


def test_an_intent_is_seen_by_the_next_worker(harness: QueueHarness) -> None:
    [recipient_id] = harness.add("ada@example.com")
    claims = harness.claim(token=1, lease_s=-1)
    with harness.transaction() as connection:
        assert harness.store.mark_intent(connection, claims) == {recipient_id}
    [again] = harness.claim(token=2)
    assert again.has_intent
    with harness.transaction() as connection:
        assert harness.store.mark_intent(connection, claims) == set()


def test_the_queue_is_empty_only_without_any_row(harness: QueueHarness) -> None:
    with harness.transaction() as connection:
        assert harness.store.is_empty(connection)
    harness.add("ada@example.com", due_in_s=3600)
    with harness.transaction() as connection:
        assert not harness.store.is_empty(connection)


def test_workers_at_the_same_time_never_hold_the_same_recipient(harness: QueueHarness) -> None:
    harness.add(*(f"r{n}@example.com" for n in range(400)))
    held: list[int] = []
    others = threading.Barrier(4)

    def work(token: int) -> None:
        engine = engines.worker_engine(harness.engine.url)
        own = QueueHarness(engine, harness.tables)
        others.wait()
        while claims := own.claim(10, lease_s=600, token=token):
            held.extend(claim.recipient_id for claim in claims)
        engine.dispose()

    threads = [threading.Thread(target=work, args=(token,)) for token in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == len(set(held)) == 400
    with harness.transaction() as connection:
        queue = harness.tables.queue
        assert connection.execute(select(func.count()).select_from(queue)).scalar_one() == 400
