"""One database transaction of a worker: all that is due is written and claimed at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Connection, Engine, delete
from sqlalchemy.exc import SQLAlchemyError

from postroom.delivery.claims import ClaimBatch
from postroom.delivery.composer import ComposerCache, MessageComposer
from postroom.delivery.scheduler import Event, new_event
from postroom.log import Log
from postroom.states import Fault, RecipientState
from postroom.storage import attachments, message_store, workers
from postroom.storage.data_errors import is_data_error, piecewise, reason_of
from postroom.storage.engine import begin_write, writable_connection
from postroom.storage.message_store import StoredMessage
from postroom.storage.queue.records import Claim, ClaimRequest, OutcomeRecord, QueueStore
from postroom.storage.queue.store import queue_for
from postroom.storage.tables import Tables
from postroom.storage.workers import WorkerIdentity

log = Log("postroom.worker")

_LARGEST_CODE = 999


_NOTHING = ClaimRequest(limits={}, lease_s=0.0, lease_token=0)


@dataclass(slots=True)
class IntentRequest:
    """A sender's request to commit that it is about to write a final dot.

    Attributes:
        claims: Whose dot it is.
        held: The recipients that are still held, once it is answered.
        answered: What the sender waits for.
    """

    claims: Sequence[Claim]
    held: set[int] = field(default_factory=set)
    answered: Event = field(default_factory=new_event)

    def complete(self, held: set[int]) -> None:
        """Let the sender go on with what is still held."""
        self.held = held
        self.answered.set()


@dataclass(slots=True, kw_only=True)
class UnitOfWork:
    """What one transaction is to do: what senders left, and what the coordinator adds to it.

    Attributes:
        outcomes: What is to be recorded.
        admitted: How many of their recipients the commit gate counts.
        intents: What senders wait for.
        released: Claims to give back.
        abandoned: Claims to forget; nothing is written about them.
        renewals: Batches whose leases are to be extended.
        claim_request: What is to be claimed.
        heartbeat_at: When the worker was seen; None: nothing to write about that.
        wants_is_empty: Whether to look if anything is left in the queue.
    """

    outcomes: Sequence[OutcomeRecord] = ()
    admitted: int = 0
    intents: Sequence[IntentRequest] = ()
    released: Sequence[Claim] = ()
    abandoned: Sequence[Claim] = ()
    renewals: Sequence[ClaimBatch] = ()
    claim_request: ClaimRequest = _NOTHING
    heartbeat_at: datetime | None = None
    wants_is_empty: bool = False

    @property
    def is_unwritten(self) -> bool:
        """Return whether it holds what senders left."""
        return bool(self.outcomes or self.released or self.intents)

    @property
    def needs_transaction(self) -> bool:
        """Return whether there is anything to do in the database."""
        return bool(
            self.is_unwritten or self.renewals or self.claim_request.limits or self.heartbeat_at
        )

    def merged(self, later: UnitOfWork) -> UnitOfWork:
        """Return what senders left in this one and in a later one."""
        if not self.is_unwritten:
            return later
        return UnitOfWork(
            outcomes=[*self.outcomes, *later.outcomes],
            admitted=self.admitted + later.admitted,
            intents=[*self.intents, *later.intents],
            released=[*self.released, *later.released],
            abandoned=later.abandoned,
        )


@dataclass(slots=True, kw_only=True)
class Committed:
    """What one transaction did, known to be committed.

    Attributes:
        intents: The recipients still held of each intent, in the order of the unit of work.
        renewals: The same of each renewal.
        claims: What was claimed, in the order of their messages.
        messages: Their messages, by id.
        is_queue_empty: Whether nothing is left in the queue, where that was asked.
    """

    intents: list[set[int]] = field(default_factory=list)
    renewals: list[set[int]] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    messages: Mapping[int, MessageComposer] = field(default_factory=dict)
    is_queue_empty: bool = False


class DeliveryStore:
    """The database as the coordinator uses it.

    Args:
        engine: One of the worker's own.
        tables: The outbox's.
        identity: What the worker is listed as.
    """

    def __init__(self, engine: Engine, tables: Tables, identity: WorkerIdentity) -> None:
        self._engine = engine
        self._tables = tables
        self._identity = identity
        self._queue = queue_for(engine.dialect, tables)
        self._cache = ComposerCache()
        #: Kept from turn to turn, until something goes wrong on it.
        self._connection: Connection | None = None

    @property
    def commit_delay_s(self) -> float:
        """Return how long a commit should wait for more outcomes while they come fast."""
        return self._queue.commit_delay_s

    def commit(self, work: UnitOfWork) -> Committed:
        """Do ``work`` in one transaction and commit it; an error leaves nothing done.

        Outcomes come first: what they free may be claimed again by the same transaction. Where
        the database refuses a value in it, all is done again piece by piece, without the culprit.
        """
        try:
            return self._commit(work, self._write)
        except Exception as error:
            if not is_data_error(error):
                raise
            log.warning("a value is refused, the others go on: %s", reason_of(error))
        return self._commit(work, self._write_piecewise)

    def _commit(
        self, work: UnitOfWork, write: Callable[[Connection, UnitOfWork, Committed], None]
    ) -> Committed:
        committed = Committed()
        try:
            connection = self._connected()
            with begin_write(connection):
                write(connection, work, committed)
                if work.wants_is_empty:
                    committed.is_queue_empty = self._queue.is_empty(connection)
        except BaseException:
            self.disconnect()
            raise
        return committed

    def trim(self) -> None:
        """Let go of messages that are too much to keep, or not used any more."""
        self._cache.trim()

    def disconnect(self) -> None:
        """Let go of the connection; the next transaction opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.close()

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = writable_connection(self._engine)
        return self._connection

    def _write(self, connection: Connection, work: UnitOfWork, committed: Committed) -> None:
        queue = self._queue
        if work.outcomes:
            queue.record(connection, work.outcomes)
        if work.released:
            queue.release(connection, work.released)
        committed.intents = [
            queue.mark_intent(connection, intent.claims) for intent in work.intents
        ]
        committed.renewals = [
            queue.renew(connection, batch.claims, work.claim_request.lease_s)
            for batch in work.renewals
        ]
        if work.heartbeat_at is not None:
            workers.record_heartbeat(connection, self._tables, self._identity, work.heartbeat_at)
        if work.claim_request.limits:
            committed.claims = queue.claim(connection, work.claim_request)
            committed.messages = self._messages(connection, committed.claims)

    def _write_piecewise(
        self, connection: Connection, work: UnitOfWork, committed: Committed
    ) -> None:
        queue = _PiecewiseQueue(connection, self._queue, self._tables)
        queue.record(work.outcomes)
        queue.release(work.released)
        committed.intents = [queue.mark_intent(intent.claims) for intent in work.intents]
        committed.renewals = [
            queue.renew(batch.claims, work.claim_request.lease_s) for batch in work.renewals
        ]
        if work.claim_request.limits:
            claimed = piecewise(
                connection,
                [work.claim_request],
                lambda requests: self._queue.claim(connection, *requests),
                lambda _, error: log.error("could not claim anything: %s", reason_of(error)),
            )
            committed.claims = [claim for claims in claimed for claim in claims]
            committed.messages = self._readable_messages(connection, committed.claims)

    def _messages(
        self, connection: Connection, claims: Sequence[Claim]
    ) -> Mapping[int, MessageComposer]:
        """Return the messages of ``claims`` by id; one that is not there is missing."""
        wanted = self._cache.missing(claims)
        return self._cache.add(self._load(connection, wanted))

    def _readable_messages(
        self, connection: Connection, claims: Sequence[Claim]
    ) -> Mapping[int, MessageComposer]:
        """Do what `_messages` does; mark the claims on a message that cannot be read."""
        reasons: dict[int, str] = {}

        def unreadable(message_id: int, error: Exception) -> None:
            reasons[message_id] = message_store.complaint(
                connection, self._tables, message_id, error
            )
            log.error(
                "a message cannot be read: %s",
                reasons[message_id],
                extra={"message_id": message_id},
            )

        wanted = self._cache.missing(claims)
        loaded = piecewise(
            connection, wanted, lambda some: self._load(connection, some), unreadable
        )
        for claim in claims:
            if claim.unreadable_because is None:
                claim.unreadable_because = reasons.get(claim.message_id)
        return self._cache.add([message for some in loaded for message in some])

    def _load(self, connection: Connection, message_ids: Sequence[int]) -> list[StoredMessage]:
        if not message_ids:
            return []
        loaded = message_store.load_messages(connection, self._tables, message_ids, self._open_blob)
        return list(loaded.values())

    def _open_blob(self, sha256: str) -> Iterator[bytes]:
        return attachments.read_blob(self._engine, self._tables, sha256)

    def deregister(self) -> None:
        """Take the worker off the list of workers, and disconnect."""
        try:
            connection = self._connected()
            with begin_write(connection):
                workers.deregister(connection, self._tables, self._identity)
        finally:
            self.disconnect()


class _PiecewiseQueue:
    """Does on ``connection``, piece by piece, what a `QueueStore` does at once."""

    def __init__(self, connection: Connection, queue: QueueStore, tables: Tables) -> None:
        self._connection = connection
        self._queue = queue
        self._tables = tables

    def record(self, results: Sequence[OutcomeRecord]) -> None:
        """Record results; one that is refused in a plain form, without what was said."""
        piecewise(
            self._connection,
            results,
            lambda some: self._queue.record(self._connection, some),
            self._record_plainly,
        )

    def release(self, claims: Sequence[Claim]) -> None:
        """Give claims back; the lease of one that is refused runs out."""
        piecewise(
            self._connection,
            claims,
            lambda some: self._queue.release(self._connection, some),
            lambda claim, error: _let_go("give back a claim", claim, error),
        )

    def mark_intent(self, claims: Sequence[Claim]) -> set[int]:
        """Mark intents; what is refused counts as not held, and does not go out."""
        held = piecewise(
            self._connection,
            claims,
            lambda some: self._queue.mark_intent(self._connection, some),
            lambda claim, error: _let_go("mark the intent to send", claim, error),
        )
        return set().union(*held)

    def renew(self, claims: Sequence[Claim], lease_s: float) -> set[int]:
        """Extend leases; what is refused counts as not held."""
        held = piecewise(
            self._connection,
            claims,
            lambda some: self._queue.renew(self._connection, some, lease_s),
            lambda claim, error: _let_go("extend the lease of a claim", claim, error),
        )
        return set().union(*held)

    def _record_plainly(self, result: OutcomeRecord, error: Exception) -> None:
        log.error(
            "the database refuses the outcome %s of recipient %d, which is recorded without what "
            "was said: %s",
            result.state.value,
            result.claim.recipient_id,
            reason_of(error),
            extra=_of(result.claim),
        )
        piecewise(
            self._connection,
            [_plain(result, reason_of(error))],
            lambda some: self._queue.record(self._connection, some),
            self._end,
        )

    def _end(self, result: OutcomeRecord, error: Exception) -> None:
        """Nothing can be recorded: at least, what a relay has is not sent again."""
        _let_go(f"record the outcome {result.state.value}", result.claim, error)
        if result.state is RecipientState.ACCEPTED:
            rows = self._tables.queue
            its = rows.c.recipient_id == result.claim.recipient_id
            piecewise(
                self._connection,
                [result.claim],
                lambda some: self._connection.execute(delete(rows).where(its)),
                lambda claim, error: _let_go("take it from the queue", claim, error),
            )


def _plain(result: OutcomeRecord, reason: str) -> OutcomeRecord:
    """Return ``result`` with nothing in it that a database could refuse."""
    code, relay = result.reply_code, result.relay
    return replace(
        result,
        fault=Fault.OURSELVES,
        reply_code=code if isinstance(code, int) and 0 <= code <= _LARGEST_CODE else None,
        enhanced_status=None,
        reply=f"{result.state.value}; what was said could not be recorded: {reason}",
        relay=relay and relay.encode("ascii", "replace").decode().replace("\0", "?")[:64],
        duration_s=None,
        transcript=None,
    )


def _let_go(of_what: str, claim: Claim, error: Exception) -> None:
    log.error(
        "could not %s (recipient %d): %s",
        of_what,
        claim.recipient_id,
        reason_of(error),
        extra=_of(claim),
    )


def _of(claim: Claim) -> dict[str, object]:
    return {"message_id": claim.message_id}
