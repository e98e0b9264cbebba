"""The ledger on SQLite: one writer at a time, so plain statements under ``BEGIN IMMEDIATE``.

Statements are qmark text run many times over by the driver, never row by row through the ORM. Each
step of such a statement lets go of the interpreter, and has to get it back from the senders: what
a list of ids or one row of JSON can say is a single step.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from postroom.storage.ledger import DOUBTS, Claim, Lease, Result, decoded, distinct_batches
from postroom.storage.models import Tables
from postroom.values.states import RecipientState

_ACCEPTED = RecipientState.ACCEPTED

#: Works from SQLite 3.35 on; ``unixepoch('subsec')`` would need 3.42.
_NOW = "((julianday('now') - 2440587.5) * 86400.0)"

_DUE = """
SELECT json_group_array(json_array(
    q.recipient_id, q.message_id, r.address, r.name, r.variables, q.claims + 1, q.tries,
    q.intent, s.reason, {now}, r.attempts, {doubts}))
FROM (
    SELECT recipient_id, message_id, claims, tries, intent FROM {queue}
    WHERE lane = ? AND due_at <= {now}
    ORDER BY due_at, recipient_id LIMIT ?
) AS q
JOIN {recipient} AS r ON r.id = q.recipient_id
LEFT JOIN {suppression} AS s ON s.address_key = r.address_key
"""

_LEASE = """
UPDATE {queue} SET due_at = {now} + ?, token = ?, claims = claims + 1
WHERE recipient_id IN (SELECT value FROM json_each(?))
"""

_STATED = """
UPDATE {recipient} SET state = ?, attempts = attempts + ?, code = ?, enhanced_code = ?,
    reply = ?, fault = ?, updated_at = ?
WHERE id = ? AND (? = 'accepted' OR EXISTS (
    SELECT 1 FROM {queue} AS q WHERE q.recipient_id = {recipient}.id AND q.token = ?))
"""

_SENT = "DELETE FROM {queue} WHERE recipient_id IN (SELECT value FROM json_each(?))"

#: Of all other outcomes that end the work.
_ENDED = "DELETE FROM {queue} WHERE recipient_id = ? AND token = ?"

_AGAIN = """
UPDATE {queue} SET due_at = {now} + ?, token = NULL, claims = 0, intent = 0, tries = tries + ?
WHERE recipient_id = ? AND token = ?
"""

_ATTEMPT = """
INSERT INTO {attempt} (recipient_id, at, relay, phase, code, enhanced_code, reply, outcome, fault,
                       duration_s, transcript)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_INTEND = "UPDATE {queue} SET intent = 1 WHERE recipient_id = ? AND token = ?"

_RENEW = "UPDATE {queue} SET due_at = {now} + ? WHERE recipient_id = ? AND token = ?"

_RELEASE = """
UPDATE {queue} SET due_at = {now}, token = NULL, claims = claims - 1, intent = 0
WHERE recipient_id = ? AND token = ?
"""

_IS_EMPTY = "SELECT NOT EXISTS (SELECT 1 FROM {queue})"


class SqliteLedger:
    """See :class:`postroom.storage.ledger.Ledger`."""

    gather_s = 0.001

    def __init__(self, tables: Tables) -> None:
        self._due = _named(_DUE, tables)
        self._lease = _named(_LEASE, tables)
        self._stated = _named(_STATED, tables)
        self._sent = _named(_SENT, tables)
        self._ended = _named(_ENDED, tables)
        self._again = _named(_AGAIN, tables)
        self._attempt = _named(_ATTEMPT, tables)
        self._intend = _named(_INTEND, tables)
        self._renew = _named(_RENEW, tables)
        self._release = _named(_RELEASE, tables)
        self._is_empty = _named(_IS_EMPTY, tables)

    def claim(self, connection: Connection, lease: Lease) -> list[Claim]:
        """Lease what is due; the write lock keeps others away between the two statements."""
        claims = [
            claim
            for lane, limit in lease.limits.items()
            for claim in self._due_in_lane(connection, lane, limit, lease.token)
        ]
        if claims:
            ids = json.dumps([claim.recipient_id for claim in claims])
            connection.exec_driver_sql(self._lease, (lease.lease_s, lease.token, ids))
        return claims

    def _due_in_lane(
        self, connection: Connection, lane: int, limit: int, token: int
    ) -> list[Claim]:
        due: str = connection.exec_driver_sql(self._due, (lane, limit)).scalar_one()
        return [
            Claim(
                recipient_id=row[0],
                message_id=row[1],
                token=token,
                address=row[2],
                name=row[3],
                variables=decoded(row[4]),
                claims=row[5],
                tries=row[6],
                has_intent=bool(row[7]),
                suppressed_because=row[8],
                lane=lane,
                claimed_at=row[9],
                attempts=row[10],
                doubts=row[11],
            )
            for row in sorted(json.loads(due))
        ]

    def record(self, connection: Connection, results: Sequence[Result]) -> None:
        """Write outcomes and attempts; recipients first, while the queue still has the tokens."""
        for batch in distinct_batches(results):
            _many(connection, self._stated, [_stated(result) for result in batch])
            sent = [result.claim.recipient_id for result in batch if result.state is _ACCEPTED]
            if sent:
                connection.exec_driver_sql(self._sent, (json.dumps(sent),))
            _many(
                connection,
                self._ended,
                [
                    _held(result.claim)
                    for result in batch
                    if result.due_in_s is None and result.state is not _ACCEPTED
                ],
            )
            _many(
                connection,
                self._again,
                [
                    (result.due_in_s, result.counts, result.claim.recipient_id, result.claim.token)
                    for result in batch
                    if result.due_in_s is not None
                ],
            )
            _many(
                connection,
                self._attempt,
                [_attempt(result) for result in batch if result.relay is not None],
            )

    def intend(self, connection: Connection, claims: Sequence[Claim]) -> set[int]:
        """Mark intents; return the recipients still held."""
        return {
            claim.recipient_id
            for claim in claims
            if connection.exec_driver_sql(self._intend, _held(claim)).rowcount
        }

    def renew(self, connection: Connection, claims: Sequence[Claim], lease_s: float) -> set[int]:
        """Extend leases; return the recipients still held."""
        return {
            claim.recipient_id
            for claim in claims
            if connection.exec_driver_sql(self._renew, (lease_s, *_held(claim))).rowcount
        }

    def release(self, connection: Connection, claims: Sequence[Claim]) -> None:
        """Give back what was not tried."""
        _many(connection, self._release, [_held(claim) for claim in claims])

    def is_empty(self, connection: Connection) -> bool:
        """Return whether the queue has no row."""
        return bool(connection.exec_driver_sql(self._is_empty).scalar_one())


def _named(sql: str, tables: Tables) -> str:
    return sql.format(
        now=_NOW,
        doubts=DOUBTS.format(attempt=tables.attempt.fullname),
        queue=tables.queue.fullname,
        recipient=tables.recipient.fullname,
        attempt=tables.attempt.fullname,
        suppression=tables.suppression.fullname,
    )


def _many(connection: Connection, sql: str, rows: list[tuple[object, ...]]) -> None:
    if rows:
        connection.exec_driver_sql(sql, rows)


def _held(claim: Claim) -> tuple[int, int]:
    return (claim.recipient_id, claim.token)


def _stated(result: Result) -> tuple[object, ...]:
    return (
        result.state.value,
        result.relay is not None,
        result.code,
        result.enhanced_code,
        result.reply,
        result.fault and result.fault.value,
        _stored(result.at),
        result.claim.recipient_id,
        result.state.value,
        result.claim.token,
    )


def _attempt(result: Result) -> tuple[object, ...]:
    return (
        result.claim.recipient_id,
        _stored(result.at),
        result.relay,
        result.phase and result.phase.value,
        result.code,
        result.enhanced_code,
        result.reply,
        result.state.value,
        result.fault and result.fault.value,
        result.duration_s,
        result.transcript,
    )


def _stored(at: datetime) -> str:
    """Return ``at``, which is in UTC, as SQLAlchemy's DateTime keeps it on SQLite."""
    return at.isoformat(" ", "microseconds")[:-6]
