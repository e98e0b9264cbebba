"""The ledger on PostgreSQL: one statement a step, ``SKIP LOCKED`` between workers.

Rows go to the server as one JSON text: as arrays, the driver would spend longer on writing them
down than the server on all the rest.

``statement_timestamp()`` and not ``clock_timestamp()``: a volatile clock cannot be an index
condition, and one statement should see one time.

``= ANY(ARRAY(SELECT ...))`` and not a join: the planner cannot know the limit of a lane, takes a
claim for a tenth of the queue, and would read all of it. Of an array that it cannot see it
expects ten elements, whatever the statistics say, and looks each one up by the index.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, Dialect

from postroom.storage.ledger import (
    LATEST_DUE_S,
    MOST_STRAYS,
    Claim,
    Lease,
    Result,
    claims_of,
    distinct_batches,
    fitted,
    named,
    strays_of,
)
from postroom.storage.models import Tables

_NOW = "extract(epoch FROM statement_timestamp())::float8"

#: The columns that count grow without end only by a defect: they stop short of their own end.
_MOST = 32_000

_DUE = """
    SELECT picked.recipient_id
    FROM unnest(%(lanes)s::smallint[], %(limits)s::int[]) AS share(lane, most)
    CROSS JOIN LATERAL (
        SELECT recipient_id FROM {queue}
        WHERE lane = share.lane AND due_at <= {now}
        ORDER BY due_at, recipient_id
        LIMIT share.most
        FOR UPDATE SKIP LOCKED
    ) AS picked
"""

#: NaN comes after all numbers. Each part has an index to follow, whatever the planner believes.
_STRAYS = f"""
    SELECT late.recipient_id
    FROM unnest(ARRAY[0, 1, 2]::smallint[]) AS known(lane)
    CROSS JOIN LATERAL (
        SELECT recipient_id FROM {{queue}} WHERE lane = known.lane AND due_at >= {LATEST_DUE_S}
        ORDER BY due_at, recipient_id LIMIT {MOST_STRAYS} FOR UPDATE SKIP LOCKED
    ) AS late
    UNION ALL
    SELECT recipient_id FROM (
        SELECT recipient_id FROM {{queue}}
        WHERE lane < 0 AND (due_at <= {{now}} OR due_at >= {LATEST_DUE_S})
        ORDER BY lane, due_at, recipient_id LIMIT {MOST_STRAYS} FOR UPDATE SKIP LOCKED
    ) AS below
    UNION ALL
    SELECT recipient_id FROM (
        SELECT recipient_id FROM {{queue}}
        WHERE lane > 2 AND (due_at <= {{now}} OR due_at >= {LATEST_DUE_S})
        ORDER BY lane, due_at, recipient_id LIMIT {MOST_STRAYS} FOR UPDATE SKIP LOCKED
    ) AS above
"""

#: The token of a message comes with the first of its recipients in a row: a campaign has one.
_CLAIM = f"""
WITH due AS MATERIALIZED (%s), leased AS (
    UPDATE {{queue}} AS q
    SET due_at = {{now}} + %%(lease_s)s, token = %%(token)s,
        claims = GREATEST(LEAST(q.claims, {_MOST}), 0) + 1
    WHERE q.recipient_id = ANY(ARRAY(SELECT recipient_id FROM due))
    RETURNING q.recipient_id, q.message_id, q.claims, q.tries, q.intent, q.lane
)
SELECT leased.recipient_id, leased.message_id, r.address, r.name, r.variables::text,
       leased.claims, leased.tries, leased.intent, s.reason, leased.lane, {{now}},
       r.attempts, {{doubts}},
       CASE WHEN lag(leased.message_id) OVER (ORDER BY leased.recipient_id)
                 IS DISTINCT FROM leased.message_id
            THEN (SELECT m.token FROM {{message}} AS m WHERE m.id = leased.message_id) END
FROM leased
LEFT JOIN {{recipient}} AS r
    ON r.id = leased.recipient_id AND r.message_id = leased.message_id
LEFT JOIN {{suppression}} AS s ON s.address_key = r.address_key
ORDER BY leased.recipient_id
"""

_RESULTS = """
WITH o AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(results)s::json) AS o(
        recipient_id bigint, token bigint, state text, at timestamptz, due_in_s float8,
        counts bool, fault text, code smallint, enhanced_code text, reply text, relay text,
        phase text, duration_s float8, transcript text, message_id bigint, message_token text)
), """

_STATED = """
    UPDATE {recipient} AS r
    SET state = o.state, attempts = LEAST(r.attempts, 2000000000) + (o.relay IS NOT NULL)::int,
        code = o.code, enhanced_code = o.enhanced_code, reply = o.reply, fault = o.fault,
        updated_at = o.at
    FROM o
    WHERE r.id = o.recipient_id AND """

_TRIED = """
    INSERT INTO {attempt} (recipient_id, at, relay, phase, code, enhanced_code, reply, outcome,
                           fault, duration_s, transcript)
    SELECT recipient_id, at, relay, phase, code, enhanced_code, reply, state, fault, duration_s,
           transcript
    FROM o WHERE relay IS NOT NULL AND """

#: What is held is looked up in a hash: as a join, which IS TRUE prevents, the planner may take
#: the few rows that it expects for each of ours again. Asking for it takes all of it, and so
#: locks every row of the queue before the first recipient. Answers with what is not held any more.
_RECORD = (
    _RESULTS
    + """ended AS (
    DELETE FROM {queue} AS q USING o
    WHERE q.recipient_id = o.recipient_id AND q.token = o.token AND o.due_in_s IS NULL
    RETURNING q.recipient_id
), again AS (
    UPDATE {queue} AS q
    SET due_at = {now} + o.due_in_s, token = NULL, claims = 0, intent = false,
        tries = LEAST(q.tries, 32000) + o.counts::int
    FROM o
    WHERE q.recipient_id = o.recipient_id AND q.token = o.token AND o.due_in_s IS NOT NULL
    RETURNING q.recipient_id
), held AS (
    SELECT recipient_id FROM ended UNION ALL SELECT recipient_id FROM again
), stated AS ("""
    + _STATED
    + """(o.recipient_id IN (SELECT recipient_id FROM held)) IS TRUE
), tried AS ("""
    + _TRIED
    + """(recipient_id IN (SELECT recipient_id FROM held)) IS TRUE
)
SELECT recipient_id FROM o WHERE (recipient_id IN (SELECT recipient_id FROM held)) IS NOT TRUE
"""
)

#: Of claims that are lost. Their recipients may be lost too, and others have come to have their
#: ids: so the message is asked whether it still has the token that it had. (What has ended is
#: counted so that the queue is locked before the recipients.)
_LATE = (
    _RESULTS
    + """same AS MATERIALIZED (
    SELECT o.recipient_id, o.state = 'accepted' AS is_accepted
    FROM o
    WHERE o.message_token = (
        SELECT m.token FROM {recipient} AS r JOIN {message} AS m ON m.id = r.message_id
        WHERE r.id = o.recipient_id AND r.message_id = o.message_id)
), ended AS (
    DELETE FROM {queue}
    WHERE recipient_id = ANY(ARRAY(SELECT recipient_id FROM same WHERE is_accepted))
    RETURNING recipient_id
), locked AS MATERIALIZED (
    SELECT id FROM {recipient}
    WHERE id = ANY(ARRAY(SELECT recipient_id FROM same WHERE is_accepted))
      AND (SELECT count(*) FROM ended) >= 0
    ORDER BY id
    FOR NO KEY UPDATE
), stated AS ("""
    + _STATED
    + """r.id = ANY(ARRAY(SELECT id FROM locked))
)"""
    + _TRIED
    + """recipient_id IN (SELECT recipient_id FROM same)
"""
)

_HELD = """
FROM unnest(%(recipient_id)s::bigint[], %(token)s::bigint[]) AS c(recipient_id, token)
WHERE q.recipient_id = ANY(ARRAY(SELECT unnest(%(recipient_id)s::bigint[])))
  AND q.recipient_id = c.recipient_id AND q.token = c.token
"""

_INTEND = "UPDATE {queue} AS q SET intent = true" + _HELD + "RETURNING q.recipient_id"

_RENEW = "UPDATE {queue} AS q SET due_at = {now} + %(lease_s)s" + _HELD + "RETURNING q.recipient_id"

_RELEASE = (
    "UPDATE {queue} AS q SET due_at = {now}, token = NULL, claims = GREATEST(q.claims, 1) - 1, "
    "intent = false" + _HELD
)

_IS_EMPTY = "SELECT NOT EXISTS (SELECT 1 FROM {queue})"


class PostgresqlLedger:
    """See :class:`postroom.storage.ledger.Ledger`."""

    gather_s = 0.0

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._claim = named(_CLAIM % _DUE, tables, dialect, now=_NOW)
        self._claim_strays = named(_CLAIM % _STRAYS, tables, dialect, now=_NOW)
        self._record = named(_RECORD, tables, dialect, now=_NOW)
        self._late = named(_LATE, tables, dialect, now=_NOW)
        self._intend = named(_INTEND, tables, dialect, now=_NOW)
        self._renew = named(_RENEW, tables, dialect, now=_NOW)
        self._release = named(_RELEASE, tables, dialect, now=_NOW)
        self._is_empty = named(_IS_EMPTY, tables, dialect, now=_NOW)

    def claim(self, connection: Connection, lease: Lease) -> list[Claim]:
        """Lease what is due; one statement for all lanes."""
        share = {"lanes": list(lease.limits), "limits": list(lease.limits.values())}
        held = {"lease_s": lease.lease_s, "token": lease.token}
        rows = connection.exec_driver_sql(self._claim, share | held).fetchall()
        claims = claims_of(rows, lease.token)
        if lease.takes_strays:
            strays = connection.exec_driver_sql(self._claim_strays, held).fetchall()
            claims.extend(strays_of(strays, lease.token))
        return claims

    def record(self, connection: Connection, results: Sequence[Result]) -> None:
        """Write outcomes and attempts; one statement a batch, one more where a claim was lost."""
        fitted(results)
        for batch in distinct_batches(results):
            told = {"results": json.dumps(_rows(batch))}
            lost = set(connection.exec_driver_sql(self._record, told).scalars())
            if lost:
                late = [result for result in batch if result.claim.recipient_id in lost]
                told = {"results": json.dumps(_rows_of_messages(late))}
                connection.exec_driver_sql(self._late, told)

    def intend(self, connection: Connection, claims: Sequence[Claim]) -> set[int]:
        """Mark intents; return the recipients still held."""
        return set(connection.exec_driver_sql(self._intend, _held(claims)).scalars())

    def renew(self, connection: Connection, claims: Sequence[Claim], lease_s: float) -> set[int]:
        """Extend leases; return the recipients still held."""
        held = {**_held(claims), "lease_s": lease_s}
        return set(connection.exec_driver_sql(self._renew, held).scalars())

    def release(self, connection: Connection, claims: Sequence[Claim]) -> None:
        """Give back what was not tried."""
        connection.exec_driver_sql(self._release, _held(claims))

    def is_empty(self, connection: Connection) -> bool:
        """Return whether the queue has no row."""
        return bool(connection.exec_driver_sql(self._is_empty).scalar_one())


def _held(claims: Sequence[Claim]) -> dict[str, object]:
    return {
        "recipient_id": [claim.recipient_id for claim in claims],
        "token": [claim.token for claim in claims],
    }


def _rows(results: Sequence[Result]) -> list[dict[str, object]]:
    return [
        {
            "recipient_id": result.claim.recipient_id,
            "token": result.claim.token,
            "state": result.state,
            "at": result.at.isoformat(),
            "due_in_s": result.due_in_s,
            "counts": result.counts,
            "fault": result.fault,
            "code": result.code,
            "enhanced_code": result.enhanced_code,
            "reply": result.reply,
            "relay": result.relay,
            "phase": result.phase,
            "duration_s": result.duration_s,
            "transcript": result.transcript,
        }
        for result in results
    ]


def _rows_of_messages(results: Sequence[Result]) -> list[dict[str, object]]:
    return [
        {
            **row,
            "message_id": result.claim.message_id,
            "message_token": result.claim.message_token,
        }
        for row, result in zip(_rows(results), results, strict=True)
    ]
