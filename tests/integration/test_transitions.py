"""Every transition of the table is walked in the database, and none that it does not have."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from postroom.message.message import Message
from postroom.states import TRANSITIONS, Lane, OnDoubt, RecipientState
from postroom.storage import actions, queries
from postroom.storage.engine import write_transaction
from postroom.storage.enqueue import enqueue
from postroom.storage.enqueue_request import EnqueueRequest, OutboxDefaults
from postroom.storage.queue import queue_for
from postroom.storage.queue.records import Claim, ClaimRequest, OutcomeRecord
from postroom.storage.tables import Tables

NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
ADDRESS = "ada@example.com"

S = RecipientState


class Walk:
    """One recipient of one message, moved about by whoever may move it.

    A worker has claimed it long ago and lost it to another one; what it has to say comes late.
    """

    def __init__(self, engine: Engine, tables: Tables) -> None:
        self._engine = engine
        self._tables = tables
        self._queue_store = queue_for(engine.dialect, tables)
        message = Message(sender="shop@example.com", text="Hello", on_doubt=OnDoubt.HOLD)
        with Session(engine) as session, session.begin():
            receipt = enqueue(
                session, tables, EnqueueRequest(message=message, to=[ADDRESS]), OutboxDefaults()
            )
        self._message_id = receipt.message_id
        self._late = self._claim(token=1, lease_s=-1)
        self._claim(token=2, lease_s=-1)
        self._held: Claim | None = None

    @property
    def state(self) -> RecipientState:
        with self._engine.connect() as connection:
            status = queries.status(connection, self._tables, self._message_id)
        return status.recipients[0].state

    def _claim(self, *, token: int, lease_s: float) -> Claim:
        lease = ClaimRequest(limits={Lane.NORMAL.rank: 1}, lease_s=lease_s, lease_token=token)
        with write_transaction(self._engine) as connection:
            [claim] = self._queue_store.claim(connection, lease)
        return claim

    def claim(self) -> None:
        self._held = self._claim(token=3, lease_s=600)

    def release(self) -> None:
        assert self._held is not None
        with write_transaction(self._engine) as connection:
            self._queue_store.release(connection, [self._held])

    def record(self, state: RecipientState, *, late: bool = False) -> None:
        claim = self._late if late else self._held
        assert claim is not None
        again_at_once = -1.0 if state in (S.DEFERRED, S.IN_DOUBT) else None
        result = OutcomeRecord(
            claim=claim, state=state, attempted_at=NOW, relay="main", due_in_s=again_at_once
        )
        with write_transaction(self._engine) as connection:
            self._queue_store.record(connection, [result])

    def accept_late(self) -> None:
        self.record(S.ACCEPTED, late=True)

    def cancel(self) -> None:
        with write_transaction(self._engine) as connection:
            actions.cancel(connection, self._tables, self._message_id)

    def requeue(self) -> None:
        with write_transaction(self._engine) as connection:
            actions.retry(connection, self._tables, self._message_id)

    def resolve(self, *, sent: bool) -> None:
        with write_transaction(self._engine) as connection:
            actions.resolve(connection, self._tables, self._message_id, sent=sent)

    def end(self) -> None:
        """Leave the queue to the next walk."""
        with write_transaction(self._engine) as connection:
            connection.execute(self._tables.queue.delete())

    def to(self, state: RecipientState) -> None:
        """Take the shortest way from ``queued`` to a state."""
        if state is S.CANCELLED:
            self.cancel()
        elif state is not S.QUEUED:
            self.claim()
            if state is not S.SENDING:
                self.record(state)


Step = Callable[[Walk], None]


def recorded(state: RecipientState) -> Step:
    return lambda walk: walk.record(state)


#: Who makes each transition. What is not here does not happen.
STEPS: dict[tuple[RecipientState, RecipientState], Step] = {
    (S.QUEUED, S.SENDING): Walk.claim,
    (S.QUEUED, S.CANCELLED): Walk.cancel,
    (S.QUEUED, S.ACCEPTED): Walk.accept_late,
    (S.SENDING, S.QUEUED): Walk.release,
    (S.SENDING, S.ACCEPTED): recorded(S.ACCEPTED),
    (S.SENDING, S.DEFERRED): recorded(S.DEFERRED),
    (S.SENDING, S.REJECTED): recorded(S.REJECTED),
    (S.SENDING, S.IN_DOUBT): recorded(S.IN_DOUBT),
    (S.SENDING, S.SUPPRESSED): recorded(S.SUPPRESSED),
    (S.SENDING, S.EXPIRED): recorded(S.EXPIRED),
    (S.SENDING, S.CANCELLED): Walk.cancel,
    (S.DEFERRED, S.SENDING): Walk.claim,
    (S.DEFERRED, S.CANCELLED): Walk.cancel,
    (S.DEFERRED, S.ACCEPTED): Walk.accept_late,
    (S.IN_DOUBT, S.SENDING): Walk.claim,
    (S.IN_DOUBT, S.ACCEPTED): lambda walk: walk.resolve(sent=True),
    (S.IN_DOUBT, S.QUEUED): lambda walk: walk.resolve(sent=False),
    (S.IN_DOUBT, S.CANCELLED): Walk.cancel,
    (S.REJECTED, S.QUEUED): Walk.requeue,
    (S.REJECTED, S.ACCEPTED): Walk.accept_late,
    (S.SUPPRESSED, S.QUEUED): Walk.requeue,
    (S.SUPPRESSED, S.ACCEPTED): Walk.accept_late,
    (S.CANCELLED, S.QUEUED): Walk.requeue,
    (S.CANCELLED, S.ACCEPTED): Walk.accept_late,
    (S.EXPIRED, S.QUEUED): Walk.requeue,
    (S.EXPIRED, S.ACCEPTED): Walk.accept_late,
}

#: Everything that can be done to a recipient at any time, by whoever comes late or insists.
AT_ANY_TIME: dict[str, Step] = {
    "accepted late": Walk.accept_late,
    "cancelled": Walk.cancel,
    "deferred late": lambda walk: walk.record(S.DEFERRED, late=True),
    "rejected late": lambda walk: walk.record(S.REJECTED, late=True),
    "requeued": Walk.requeue,
    "resolved as not sent": lambda walk: walk.resolve(sent=False),
    "resolved as sent": lambda walk: walk.resolve(sent=True),
}


@pytest.fixture
def walk(worker_engine: Engine, tables: Tables) -> Walk:
    return Walk(worker_engine, tables)


def test_the_walks_are_those_of_the_table() -> None:
    table = {(before, after) for before, follow in TRANSITIONS.items() for after in follow}
    assert set(STEPS) == table


@pytest.mark.parametrize(("before", "after"), STEPS, ids=lambda state: state.value)
def test_a_transition_of_the_table_happens(
    walk: Walk, before: RecipientState, after: RecipientState
) -> None:
    walk.to(before)
    assert walk.state is before
    STEPS[before, after](walk)
    assert walk.state is after


@pytest.mark.parametrize("what", AT_ANY_TIME)
def test_nothing_happens_that_the_table_does_not_have(
    worker_engine: Engine, tables: Tables, what: str
) -> None:
    for before in RecipientState:
        walk = Walk(worker_engine, tables)
        walk.to(before)
        AT_ANY_TIME[what](walk)
        assert walk.state in TRANSITIONS[before] | {before}, f"{before}, {what}"
        walk.end()
