"""An outbox for tests of the storage: enqueues, and does by hand what a worker does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, event, select, update

from postroom.message.message import Message
from postroom.states import Fault, Phase, RecipientState
from postroom.storage import actions, queries
from postroom.storage.engine import clock_sql, read_transaction, write_transaction
from postroom.storage.enqueue import enqueue
from postroom.storage.enqueue_request import EnqueueRequest, OutboxDefaults
from postroom.storage.queries import Explanation, MessageStatus, RecipientStatus
from postroom.storage.queue import queue_for
from postroom.storage.queue.records import Claim, ClaimRequest, OutcomeRecord
from postroom.storage.tables import Tables


class Mailroom:
    """The storage of one database, where the test decides the time of what is written."""

    def __init__(self, engine: Engine, tables: Tables) -> None:
        self.engine = engine
        self.tables = tables
        self.queue_store = queue_for(engine.dialect, tables)

    def enqueue(
        self,
        *to: str,
        at: datetime | None = None,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> int:
        """Enqueue one message and commit; return its id."""
        message = Message(**({"sender": "shop@example.com", "subject": "Hello"} | fields))
        defaults = replace(OutboxDefaults(), now=lambda: at or datetime.now(UTC))
        with write_transaction(self.engine) as connection:
            request = EnqueueRequest(message=message, to=to, idempotency_key=idempotency_key)
            return enqueue(connection, self.tables, request, defaults).message_id

    def claim(self, limit: int = 100, *, lease_s: float = 60.0, token: int = 1) -> list[Claim]:
        """Lease what is due."""
        request = ClaimRequest(
            limits=dict.fromkeys(range(3), limit), lease_s=lease_s, lease_token=token
        )
        with write_transaction(self.engine) as connection:
            return self.queue_store.claim(connection, request)

    def record(self, claim: Claim, state: RecipientState, **columns: Any) -> None:
        """Write the outcome of a claim, with an attempt at a relay."""
        known = {"attempted_at": datetime.now(UTC), "relay": "smtp.example.com", "phase": Phase.DOT}
        result = OutcomeRecord(**({"claim": claim, "state": state} | known | columns))
        with write_transaction(self.engine) as connection:
            self.queue_store.record(connection, [result])

    def intend(self, claim: Claim) -> bool:
        """Commit the intent to write the final dot; return whether the claim still holds."""
        with write_transaction(self.engine) as connection:
            return claim.recipient_id in self.queue_store.mark_intent(connection, [claim])

    def bring_to(self, message_id: int, state: RecipientState, **columns: Any) -> None:
        """Bring every recipient of a message, which is due, to ``state``."""
        if state is RecipientState.QUEUED:
            return
        if state is RecipientState.CANCELLED:
            with write_transaction(self.engine) as connection:
                actions.cancel(connection, self.tables, message_id)
            return
        claims = self.claim()
        if state is RecipientState.SENDING:
            return
        for claim in claims:
            assert claim.message_id == message_id
            self.record(claim, state, **(_OUTCOMES.get(state, {}) | columns))

    def expire_leases(self) -> None:
        """Make every lease end in the past."""
        queue = self.tables.queue
        with write_transaction(self.engine) as connection:
            past = clock_sql(connection.dialect) - 1.0
            connection.execute(
                update(queue).where(queue.c.lease_token.is_not(None)).values(due_at=past)
            )

    def age(self, message_id: int, by: timedelta) -> None:
        """Make a message and the outcomes of its recipients older."""
        message, recipient = self.tables.message, self.tables.recipient
        with write_transaction(self.engine) as connection:
            for table, mine, column in (
                (message, message.c.id, "created_at"),
                (recipient, recipient.c.message_id, "updated_at"),
            ):
                rows = connection.execute(
                    select(table.c.id, table.c[column]).where(mine == message_id)
                )
                for id, at in rows.all():
                    older = update(table).where(table.c.id == id).values({column: at - by})
                    connection.execute(older)

    def status(self, message_id: int) -> MessageStatus:
        """Return the status of a message."""
        with read_transaction(self.engine) as connection:
            return queries.status(connection, self.tables, message_id)

    def only(self, message_id: int) -> RecipientStatus:
        """Return the status of the only recipient of a message."""
        (recipient,) = self.status(message_id).recipients
        return recipient

    def states(self, message_id: int) -> dict[str, RecipientState]:
        """Return the state of each address."""
        return {one.address: one.state for one in self.status(message_id).recipients}

    def explain(self, message_id: int) -> Explanation:
        """Return the explanation for the only recipient of a message."""
        with read_transaction(self.engine) as connection:
            (explanation,) = queries.explain(connection, self.tables, message_id)
        return explanation

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        with read_transaction(self.engine) as connection:
            return len(connection.execute(select(getattr(self.tables, table))).all())


_S = RecipientState

_OUTCOMES: dict[RecipientState, dict[str, Any]] = {
    _S.ACCEPTED: {
        "reply_code": 250,
        "enhanced_status": "2.0.0",
        "reply": "250 2.0.0 Ok: queued as 1A2B",
    },
    _S.DEFERRED: {
        "due_in_s": 300.0,
        "counts_as_try": True,
        "reply_code": 451,
        "enhanced_status": "4.7.1",
        "reply": "451 4.7.1 Greylisted",
        "fault": Fault.RECIPIENT,
        "phase": Phase.RCPT,
        "transcript": "C: RCPT TO",
    },
    _S.REJECTED: {
        "reply_code": 550,
        "enhanced_status": "5.1.1",
        "reply": "550 5.1.1 No such user",
        "fault": Fault.RECIPIENT,
        "phase": Phase.RCPT,
    },
    _S.IN_DOUBT: {"due_in_s": 900.0, "reply": "connection lost", "fault": Fault.RELAY},
    _S.SUPPRESSED: {"relay": None, "phase": None, "reply": "suppressed: bounced"},
    _S.EXPIRED: {"relay": None, "phase": None, "reply": "expired"},
}


@contextmanager
def statements(engine: Engine) -> Iterator[list[str]]:
    """Collect the statements that are executed in the block."""
    seen: list[str] = []

    def remember(
        connection: Connection,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        many: bool,
    ) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", remember)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", remember)
