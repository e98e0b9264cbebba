"""The queue on SQLite: one writer at a time, so plain statements under ``BEGIN IMMEDIATE``.

Statements are qmark text that the driver runs many times, never row by row through the ORM. Each
step of such a statement releases the GIL and has to get it back from the senders. A list of ids or
one row of JSON is a single step.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Dialect

from postroom.states import RecipientState
from postroom.storage.queue.records import (
    LATEST_DUE_S,
    MAX_INVALID_ROWS,
    Claim,
    ClaimRequest,
    OutcomeRecord,
    claims_of,
    invalid_claims_of,
    named,
    sanitize,
    without_repeats,
)
from postroom.storage.tables import Tables

_ACCEPTED = RecipientState.ACCEPTED

#: Works from SQLite 3.35 on; ``unixepoch('subsec')`` would need 3.42.
_NOW = "((julianday('now') - 2440587.5) * 86400.0)"

_CLAIMED = """
FROM (
    SELECT recipient_id, message_id, lane, claim_count, try_count, send_intent FROM {queue}
    WHERE %s LIMIT ?
) AS q
LEFT JOIN {recipient} AS r ON r.id = q.recipient_id AND r.message_id = q.message_id
LEFT JOIN {message} AS m ON m.id = q.message_id
LEFT JOIN {suppression} AS s ON s.address_key = r.address_key
"""

_DUE = _CLAIMED % "lane = ? AND due_at <= {now} ORDER BY due_at, recipient_id"

_DUE_AT_ONCE = (
    """
SELECT json_group_array(json_array(
    q.recipient_id, q.message_id, r.address, r.name, r.variables, q.claim_count + 1,
    q.try_count, q.send_intent, s.reason, q.lane, {now}, r.attempt_count, {in_doubt_count},
    m.message_id_seed))
"""
    + _DUE
)


def _as_is(column: str) -> str:
    """Return a column of any type so that the driver can always fetch it: texts as bytes."""
    return f"CASE typeof({column}) WHEN 'text' THEN CAST({column} AS BLOB) ELSE {column} END"


_ONE_BY_ONE = "SELECT " + ", ".join(
    [
        *map(_as_is, ("q.recipient_id", "q.message_id", "r.address", "r.name", "r.variables")),
        *map(_as_is, ("q.claim_count", "q.try_count", "q.send_intent", "s.reason", "q.lane")),
        "{now}",
        _as_is("r.attempt_count"),
        "{in_doubt_count}",
        _as_is("m.message_id_seed"),
    ]
)

_DUE_ONE_BY_ONE = _ONE_BY_ONE + _DUE

#: In SQLite any column may hold anything: what is not a number sorts after all numbers.
_INVALID_ROWS = _ONE_BY_ONE + _CLAIMED % (
    f"(lane IN (0, 1, 2) AND due_at >= {LATEST_DUE_S}) OR ((lane < 0 OR (lane > 0 AND lane < 1) "
    "OR (lane > 1 AND lane < 2) OR lane > 2) "
    f"AND (due_at <= {{now}} OR due_at >= {LATEST_DUE_S}))"
)

_LEASE = """
UPDATE {queue} SET due_at = {now} + ?, lease_token = ?, claim_count = claim_count + 1
WHERE recipient_id IN (SELECT value FROM json_each(?))
"""

_STATED = """
UPDATE {recipient} SET state = ?, attempt_count = attempt_count + ?, reply_code = ?,
    enhanced_status = ?, reply = ?, fault = ?, updated_at = ?
WHERE id = ?"""

#: If the claim is still held, as it nearly always is.
_STATED_BY_HOLDER = (
    _STATED
    + """ AND EXISTS (
    SELECT 1 FROM {queue} AS q WHERE q.recipient_id = {recipient}.id AND q.lease_token = ?)
"""
)

#: Of claims as ``[[recipient, lease token, message, seed], ...]``, those that are lost, and whether
#: their recipients still belong to the messages that were claimed: otherwise other recipients have
#: their ids now.
_LOST = """
SELECT json_group_array(json_array(json_extract(c.value, '$[0]'), EXISTS (
    SELECT 1 FROM {recipient} AS r JOIN {message} AS m ON m.id = r.message_id
    WHERE r.id = json_extract(c.value, '$[0]') AND r.message_id = json_extract(c.value, '$[2]')
      AND m.message_id_seed = json_extract(c.value, '$[3]'))))
FROM json_each(?) AS c
WHERE NOT EXISTS (
    SELECT 1 FROM {queue} AS q
    WHERE q.recipient_id = json_extract(c.value, '$[0]')
      AND q.lease_token = json_extract(c.value, '$[1]'))
"""

_SENT = "DELETE FROM {queue} WHERE recipient_id IN (SELECT value FROM json_each(?))"

#: For all other outcomes that end the work.
_ENDED = "DELETE FROM {queue} WHERE recipient_id = ? AND lease_token = ?"

_AGAIN = """
UPDATE {queue} SET due_at = {now} + ?, lease_token = NULL, claim_count = 0, send_intent = 0,
    try_count = try_count + ?
WHERE recipient_id = ? AND lease_token = ?
"""

_ATTEMPT = """
INSERT INTO {attempt} (recipient_id, attempted_at, relay, phase, reply_code, enhanced_status, reply,
                       outcome, fault, duration_s, transcript)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_INTEND = "UPDATE {queue} SET send_intent = 1 WHERE recipient_id = ? AND lease_token = ?"

_RENEW = "UPDATE {queue} SET due_at = {now} + ? WHERE recipient_id = ? AND lease_token = ?"

_RELEASE = """
UPDATE {queue} SET due_at = {now}, lease_token = NULL, claim_count = claim_count - 1,
    send_intent = 0
WHERE recipient_id = ? AND lease_token = ?
"""

_IS_EMPTY = "SELECT NOT EXISTS (SELECT 1 FROM {queue})"


class SqliteQueue:
    """Implements :class:`postroom.storage.queue.records.QueueStore` on SQLite."""

    commit_delay_s = 0.001

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._due_at_once = named(_DUE_AT_ONCE, tables, dialect, now=_NOW)
        self._due_one_by_one = named(_DUE_ONE_BY_ONE, tables, dialect, now=_NOW)
        self._invalid_rows = named(_INVALID_ROWS, tables, dialect, now=_NOW)
        self._lease = named(_LEASE, tables, dialect, now=_NOW)
        self._stated = named(_STATED, tables, dialect, now=_NOW)
        self._stated_by_holder = named(_STATED_BY_HOLDER, tables, dialect, now=_NOW)
        self._lost = named(_LOST, tables, dialect, now=_NOW)
        self._sent = named(_SENT, tables, dialect, now=_NOW)
        self._ended = named(_ENDED, tables, dialect, now=_NOW)
        self._again = named(_AGAIN, tables, dialect, now=_NOW)
        self._attempt = named(_ATTEMPT, tables, dialect, now=_NOW)
        self._intend = named(_INTEND, tables, dialect, now=_NOW)
        self._renew = named(_RENEW, tables, dialect, now=_NOW)
        self._release = named(_RELEASE, tables, dialect, now=_NOW)
        self._is_empty = named(_IS_EMPTY, tables, dialect, now=_NOW)

    def claim(self, connection: Connection, request: ClaimRequest) -> list[Claim]:
        """Claim due recipients; the write lock keeps others away between the statements."""
        claims = [
            claim
            for lane, limit in request.limits.items()
            for claim in self._due_in_lane(connection, lane, limit, request.lease_token)
        ]
        if request.takes_invalid_rows:
            rows = _rows(connection, self._invalid_rows, (MAX_INVALID_ROWS,))
            claims.extend(invalid_claims_of(rows, request.lease_token))
        if claims:
            ids = json.dumps([claim.recipient_id for claim in claims])
            connection.exec_driver_sql(self._lease, (request.lease_s, request.lease_token, ids))
        return claims

    def _due_in_lane(
        self, connection: Connection, lane: int, limit: int, lease_token: int
    ) -> list[Claim]:
        try:
            due = connection.exec_driver_sql(self._due_at_once, (lane, limit)).scalar_one()
            rows = sorted(json.loads(due))
        except Exception:
            # One invalid row is enough: a text that is not UTF-8, a blob, a number that is not
            # finite. If the cause is the database itself, this fails as well.
            rows = _rows(connection, self._due_one_by_one, (lane, limit))
        return claims_of(rows, lease_token)

    def record(self, connection: Connection, results: Sequence[OutcomeRecord]) -> None:
        """Write outcomes and attempts; recipients first, while the queue has their tokens."""
        sanitize(results)
        for batch in without_repeats(results):
            by_holders = [(*_stated(result), result.claim.lease_token) for result in batch]
            held = connection.exec_driver_sql(self._stated_by_holder, by_holders).rowcount
            known = batch if held == len(batch) else self._late(connection, batch)
            sent = [result.claim.recipient_id for result in known if result.state is _ACCEPTED]
            if sent:
                connection.exec_driver_sql(self._sent, (json.dumps(sent),))
            _many(
                connection,
                self._ended,
                [
                    _held(result.claim)
                    for result in known
                    if result.due_in_s is None and result.state is not _ACCEPTED
                ],
            )
            _many(
                connection,
                self._again,
                [
                    (
                        result.due_in_s,
                        result.counts_as_try,
                        result.claim.recipient_id,
                        result.claim.lease_token,
                    )
                    for result in known
                    if result.due_in_s is not None
                ],
            )
            _many(
                connection,
                self._attempt,
                [_attempt(result) for result in known if result.relay is not None],
            )

    def _late(self, connection: Connection, results: list[OutcomeRecord]) -> list[OutcomeRecord]:
        """Write ``accepted`` outcomes of lost claims; drop outcomes of reused ids."""
        claims = [
            (claim.recipient_id, claim.lease_token, claim.message_id, claim.message_id_seed)
            for claim in [result.claim for result in results]
        ]
        found = connection.exec_driver_sql(self._lost, (json.dumps(claims),)).scalar_one()
        lost: dict[int, int] = dict(json.loads(found))
        known = [result for result in results if lost.get(result.claim.recipient_id, True)]
        late = [one for one in known if one.claim.recipient_id in lost and one.state is _ACCEPTED]
        _many(connection, self._stated, [_stated(result) for result in late])
        return known

    def mark_intent(self, connection: Connection, claims: Sequence[Claim]) -> set[int]:
        """Mark the intent to send; return the recipients still held."""
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
        """Give back claims that were not tried."""
        _many(connection, self._release, [_held(claim) for claim in claims])

    def is_empty(self, connection: Connection) -> bool:
        """Return whether the queue has no row."""
        return bool(connection.exec_driver_sql(self._is_empty).scalar_one())


def _rows(connection: Connection, sql: str, values: tuple[object, ...]) -> list[list[Any]]:
    """Return rows of `_ONE_BY_ONE`: texts decoded, and what is not UTF-8 as bytes."""
    found = connection.exec_driver_sql(sql, values).fetchall()
    return [[_text(value) for value in row] for row in sorted(found, key=lambda row: row[0])]


def _text(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _many(connection: Connection, sql: str, rows: list[tuple[object, ...]]) -> None:
    if rows:
        connection.exec_driver_sql(sql, rows)


def _held(claim: Claim) -> tuple[int, int]:
    return (claim.recipient_id, claim.lease_token)


# ``_value_``: on Python 3.11 reading ``value`` calls two functions, here three times for each mail.
def _stated(result: OutcomeRecord) -> tuple[object, ...]:
    return (
        result.state._value_,
        result.relay is not None,
        result.reply_code,
        result.enhanced_status,
        result.reply,
        result.fault and result.fault._value_,
        _stored(result.attempted_at),
        result.claim.recipient_id,
    )


def _attempt(result: OutcomeRecord) -> tuple[object, ...]:
    return (
        result.claim.recipient_id,
        _stored(result.attempted_at),
        result.relay,
        result.phase and result.phase._value_,
        result.reply_code,
        result.enhanced_status,
        result.reply,
        result.state._value_,
        result.fault and result.fault._value_,
        result.duration_s,
        result.transcript,
    )


def _stored(at: datetime) -> str:
    """Return ``at``, which is in UTC, as SQLAlchemy's DateTime stores it on SQLite."""
    return at.isoformat(" ", "microseconds")[:-6]
