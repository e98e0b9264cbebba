"""One transaction of the ledger thread: everything that is due, written and claimed at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from postroom.delivery.mail import Mail, MailCache
from postroom.delivery.refused import Refused
from postroom.log import Log
from postroom.storage import blobs, contents, heartbeat
from postroom.storage.contents import StoredMessage
from postroom.storage.data_errors import is_data_error, reason_of
from postroom.storage.dialect import ledger_for
from postroom.storage.engine import transaction, writing
from postroom.storage.heartbeat import Heartbeat
from postroom.storage.ledger import Claim, Lease, Result
from postroom.storage.models import Tables
from postroom.storage.piecewise import piecewise

log = Log("postroom.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one transaction is to do."""

    results: Sequence[Result] = ()
    released: Sequence[Claim] = ()
    intents: Sequence[Sequence[Claim]] = ()
    renewals: Sequence[Sequence[Claim]] = ()
    lease: Lease
    beats_at: datetime | None = None
    asks_if_empty: bool = False

    @property
    def is_nothing(self) -> bool:
        """Return whether no transaction is needed."""
        writes = self.results or self.released or self.intents or self.renewals
        return not (writes or self.lease.limits or self.beats_at)


@dataclass(slots=True, kw_only=True)
class Settled:
    """What one transaction did, known to be committed."""

    intents: list[set[int]] = field(default_factory=list)
    renewals: list[set[int]] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    mails: Mapping[int, Mail] = field(default_factory=dict)
    is_queue_empty: bool = False


class Books:
    """The database as the ledger thread uses it."""

    def __init__(self, engine: Engine, tables: Tables, heartbeat: Heartbeat) -> None:
        self._engine = engine
        self._tables = tables
        self._heartbeat = heartbeat
        self._ledger = ledger_for(engine.dialect, tables)
        self._cache = MailCache()
        #: Kept from turn to turn, until something goes wrong on it.
        self._connection: Connection | None = None

    @property
    def gather_s(self) -> float:
        """Return how long a commit should wait for more outcomes while they come fast."""
        return self._ledger.gather_s

    def settle(self, work: Work) -> Settled:
        """Do ``work`` in one transaction and commit it; an error leaves nothing done.

        Outcomes come first: what they free may be claimed again by the same transaction. Where
        the database refuses a value in it, all is done again piece by piece, without the culprit.
        """
        try:
            return self._settled(work, self._write)
        except Exception as error:
            if not is_data_error(error):
                raise
            log.warning("a value is refused, the others go on: %s", reason_of(error))
        return self._settled(work, self._write_piecewise)

    def _settled(self, work: Work, write: Callable[[Connection, Work, Settled], None]) -> Settled:
        settled = Settled()
        try:
            connection = self._connected()
            with transaction(connection):
                write(connection, work, settled)
                if work.asks_if_empty:
                    settled.is_queue_empty = self._ledger.is_empty(connection)
        except BaseException:
            self.disconnect()
            raise
        return settled

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
            self._connection = writing(self._engine)
        return self._connection

    def _write(self, connection: Connection, work: Work, settled: Settled) -> None:
        ledger = self._ledger
        if work.results:
            ledger.record(connection, work.results)
        if work.released:
            ledger.release(connection, work.released)
        settled.intents = [ledger.intend(connection, claims) for claims in work.intents]
        settled.renewals = [
            ledger.renew(connection, claims, work.lease.lease_s) for claims in work.renewals
        ]
        if work.beats_at is not None:
            heartbeat.beat(connection, self._tables, self._heartbeat, work.beats_at)
        if work.lease.limits:
            settled.claims = ledger.claim(connection, work.lease)
            settled.mails = self._mails(connection, settled.claims)

    def _write_piecewise(self, connection: Connection, work: Work, settled: Settled) -> None:
        refused = Refused(connection, self._ledger, self._tables)
        refused.record(work.results)
        refused.release(work.released)
        settled.intents = [refused.intend(claims) for claims in work.intents]
        settled.renewals = [refused.renew(claims, work.lease.lease_s) for claims in work.renewals]
        if work.lease.limits:
            claimed = piecewise(
                connection,
                [work.lease],
                lambda leases: self._ledger.claim(connection, *leases),
                lambda _, error: log.error("could not claim anything: %s", reason_of(error)),
            )
            settled.claims = [claim for claims in claimed for claim in claims]
            settled.mails = self._readable_mails(connection, settled.claims)

    def _mails(self, connection: Connection, claims: Sequence[Claim]) -> Mapping[int, Mail]:
        """Return the messages of ``claims`` by id; one that is not there is missing."""
        wanted = self._cache.missing(claims)
        return self._cache.add(self._load(connection, wanted))

    def _readable_mails(
        self, connection: Connection, claims: Sequence[Claim]
    ) -> Mapping[int, Mail]:
        """Do what `_mails` does; mark the claims on a message that cannot be read."""
        reasons: dict[int, str] = {}

        def unreadable(message_id: int, error: Exception) -> None:
            reasons[message_id] = contents.complaint(connection, self._tables, message_id, error)
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
        loaded = contents.load(connection, self._tables, message_ids, self._open_blob)
        return list(loaded.values())

    def _open_blob(self, sha256: str) -> Iterator[bytes]:
        return blobs.read(self._engine, self._tables, sha256)

    def leave(self) -> None:
        """Take the worker off the list of those at work, and disconnect."""
        try:
            connection = self._connected()
            with transaction(connection):
                heartbeat.leave(connection, self._tables, self._heartbeat)
        finally:
            self.disconnect()
