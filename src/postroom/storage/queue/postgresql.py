"""The queue on PostgreSQL: one statement for each step, and ``SKIP LOCKED`` between workers.

Rows go to the server as one JSON text: as arrays, the driver would take longer to write them than
the server needs for everything else.

``statement_timestamp()`` and not ``clock_timestamp()``: a volatile clock cannot be an index
condition, and one statement should see one time.

``= ANY(ARRAY(SELECT ...))`` and not a join: the planner cannot know the limit of a lane. It
estimates a claim at a tenth of the queue, and would read all of it. For an array that it cannot see
it expects ten elements, whatever the statistics say, and looks each one up in the index.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from sqlalchemy import Connection, Dialect

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

_NOW = "extract(epoch FROM statement_timestamp())::float8"

#: Counts grow this large only because of a bug: stop them before their column overflows.
_MAX_COUNT = 32_000

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

#: NaN sorts after all numbers. Each part can use the index, whatever the planner estimates.
_INVALID_ROWS = f"""
    SELECT late.recipient_id
    FROM unnest(ARRAY[0, 1, 2]::smallint[]) AS known(lane)
    CROSS JOIN LATERAL (
        SELECT recipient_id FROM {{queue}} WHERE lane = known.lane AND due_at >= {LATEST_DUE_S}
        ORDER BY due_at, recipient_id LIMIT {MAX_INVALID_ROWS} FOR UPDATE SKIP LOCKED
    ) AS late
    UNION ALL
    SELECT recipient_id FROM (
        SELECT recipient_id FROM {{queue}}
        WHERE lane < 0 AND (due_at <= {{now}} OR due_at >= {LATEST_DUE_S})
        ORDER BY lane, due_at, recipient_id LIMIT {MAX_INVALID_ROWS} FOR UPDATE SKIP LOCKED
    ) AS below
    UNION ALL
    SELECT recipient_id FROM (
        SELECT recipient_id FROM {{queue}}
        WHERE lane > 2 AND (due_at <= {{now}} OR due_at >= {LATEST_DUE_S})
        ORDER BY lane, due_at, recipient_id LIMIT {MAX_INVALID_ROWS} FOR UPDATE SKIP LOCKED
    ) AS above
"""

#: A message's seed comes with the first of its consecutive recipients: a campaign has one message.
_CLAIM = f"""
WITH due AS MATERIALIZED (%s), leased AS (
    UPDATE {{queue}} AS q
    SET due_at = {{now}} + %%(lease_s)s, lease_token = %%(lease_token)s,
        claim_count = GREATEST(LEAST(q.claim_count, {_MAX_COUNT}), 0) + 1
    WHERE q.recipient_id = ANY(ARRAY(SELECT recipient_id FROM due))
    RETURNING q.recipient_id, q.message_id, q.claim_count, q.try_count, q.send_intent, q.lane
)
SELECT leased.recipient_id, leased.message_id, r.address, r.name, r.variables::text,
       leased.claim_count, leased.try_count, leased.send_intent, s.reason, leased.lane, {{now}},
       r.attempt_count, {{in_doubt_count}},
       CASE WHEN lag(leased.message_id) OVER (ORDER BY leased.recipient_id)
                 IS DISTINCT FROM leased.message_id
            THEN (SELECT m.message_id_seed FROM {{message}} AS m WHERE m.id = leased.message_id) END
FROM leased
LEFT JOIN {{recipient}} AS r
    ON r.id = leased.recipient_id AND r.message_id = leased.message_id
LEFT JOIN {{suppression}} AS s ON s.address_key = r.address_key
ORDER BY leased.recipient_id
"""

_RESULTS = """
WITH o AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(results)s::json) AS o(
        recipient_id bigint, lease_token bigint, state text, attempted_at timestamptz,
        due_in_s float8, counts_as_try bool, fault text, reply_code smallint,
        enhanced_status text, reply text, relay text, phase text, duration_s float8,
        transcript text, message_id bigint, message_id_seed text)
), """

_STATED = """
    UPDATE {recipient} AS r
    SET state = o.state, reply_code = o.reply_code, enhanced_status = o.enhanced_status,
        attempt_count = LEAST(r.attempt_count, 2000000000) + (o.relay IS NOT NULL)::int,
        reply = o.reply, fault = o.fault, updated_at = o.attempted_at
    FROM o
    WHERE r.id = o.recipient_id AND """

_TRIED = """
    INSERT INTO {attempt} (recipient_id, attempted_at, relay, phase, reply_code, enhanced_status,
                           reply, outcome, fault, duration_s, transcript)
    SELECT recipient_id, attempted_at, relay, phase, reply_code, enhanced_status, reply, state,
           fault, duration_s, transcript
    FROM o WHERE relay IS NOT NULL AND """

#: ``held`` is looked up in a hash. As a join, which IS TRUE prevents, the planner may scan the few
#: rows that it expects once for each of ours. Building the hash reads all of ``held``, and so locks
#: every row of the queue before the first recipient. Returns the claims that are lost.
_RECORD = (
    _RESULTS
    + """ended AS (
    DELETE FROM {queue} AS q USING o
    WHERE q.recipient_id = o.recipient_id AND q.lease_token = o.lease_token AND o.due_in_s IS NULL
    RETURNING q.recipient_id
), again AS (
    UPDATE {queue} AS q
    SET due_at = {now} + o.due_in_s, lease_token = NULL, claim_count = 0, send_intent = false,
        try_count = LEAST(q.try_count, 32000) + o.counts_as_try::int
    FROM o
    WHERE q.recipient_id = o.recipient_id AND q.lease_token = o.lease_token
      AND o.due_in_s IS NOT NULL
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

#: For lost claims. Their recipients may be gone too, and other recipients may have their ids: so
#: the message must still have its seed. (``ended`` is counted so that the queue is locked before
#: the recipients.)
_LATE = (
    _RESULTS
    + """same AS MATERIALIZED (
    SELECT o.recipient_id, o.state = 'accepted' AS is_accepted
    FROM o
    WHERE o.message_id_seed = (
        SELECT m.message_id_seed FROM {recipient} AS r JOIN {message} AS m ON m.id = r.message_id
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
FROM unnest(%(recipient_id)s::bigint[], %(lease_token)s::bigint[]) AS c(recipient_id, lease_token)
WHERE q.recipient_id = ANY(ARRAY(SELECT unnest(%(recipient_id)s::bigint[])))
  AND q.recipient_id = c.recipient_id AND q.lease_token = c.lease_token
"""

_INTEND = "UPDATE {queue} AS q SET send_intent = true" + _HELD + "RETURNING q.recipient_id"

_RENEW = "UPDATE {queue} AS q SET due_at = {now} + %(lease_s)s" + _HELD + "RETURNING q.recipient_id"

_RELEASE = (
    "UPDATE {queue} AS q SET due_at = {now}, lease_token = NULL, "
    "claim_count = GREATEST(q.claim_count, 1) - 1, send_intent = false" + _HELD
)

_IS_EMPTY = "SELECT NOT EXISTS (SELECT 1 FROM {queue})"


class PostgresqlQueue:
    """Implements :class:`postroom.storage.queue.records.QueueStore` on PostgreSQL."""

    commit_delay_s = 0.0

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._claim = named(_CLAIM % _DUE, tables, dialect, now=_NOW)
        self._claim_invalid_rows = named(_CLAIM % _INVALID_ROWS, tables, dialect, now=_NOW)
        self._record = named(_RECORD, tables, dialect, now=_NOW)
        self._late = named(_LATE, tables, dialect, now=_NOW)
        self._intend = named(_INTEND, tables, dialect, now=_NOW)
        self._renew = named(_RENEW, tables, dialect, now=_NOW)
        self._release = named(_RELEASE, tables, dialect, now=_NOW)
        self._is_empty = named(_IS_EMPTY, tables, dialect, now=_NOW)

    def claim(self, connection: Connection, request: ClaimRequest) -> list[Claim]:
        """Claim due recipients; one statement for all lanes."""
        share = {"lanes": list(request.limits), "limits": list(request.limits.values())}
        held = {"lease_s": request.lease_s, "lease_token": request.lease_token}
        rows = connection.exec_driver_sql(self._claim, share | held).fetchall()
        claims = claims_of(rows, request.lease_token)
        if request.takes_invalid_rows:
            invalid = connection.exec_driver_sql(self._claim_invalid_rows, held).fetchall()
            claims.extend(invalid_claims_of(invalid, request.lease_token))
        return claims

    def record(self, connection: Connection, results: Sequence[OutcomeRecord]) -> None:
        """Write outcomes and attempts: one statement for each batch, two if a claim was lost."""
        sanitize(results)
        for batch in without_repeats(results):
            parameters = {"results": json.dumps(_rows(batch))}
            lost = set(connection.exec_driver_sql(self._record, parameters).scalars())
            if lost:
                late = [result for result in batch if result.claim.recipient_id in lost]
                parameters = {"results": json.dumps(_rows_of_messages(late))}
                connection.exec_driver_sql(self._late, parameters)

    def mark_intent(self, connection: Connection, claims: Sequence[Claim]) -> set[int]:
        """Mark the intent to send; return the recipients still held."""
        return set(connection.exec_driver_sql(self._intend, _held(claims)).scalars())

    def renew(self, connection: Connection, claims: Sequence[Claim], lease_s: float) -> set[int]:
        """Extend leases; return the recipients still held."""
        held = {**_held(claims), "lease_s": lease_s}
        return set(connection.exec_driver_sql(self._renew, held).scalars())

    def release(self, connection: Connection, claims: Sequence[Claim]) -> None:
        """Give back claims that were not tried."""
        connection.exec_driver_sql(self._release, _held(claims))

    def is_empty(self, connection: Connection) -> bool:
        """Return whether the queue has no row."""
        return bool(connection.exec_driver_sql(self._is_empty).scalar_one())


def _held(claims: Sequence[Claim]) -> dict[str, object]:
    return {
        "recipient_id": [claim.recipient_id for claim in claims],
        "lease_token": [claim.lease_token for claim in claims],
    }


def _rows(results: Sequence[OutcomeRecord]) -> list[dict[str, object]]:
    return [
        {
            "recipient_id": result.claim.recipient_id,
            "lease_token": result.claim.lease_token,
            "state": result.state,
            "attempted_at": result.attempted_at.isoformat(),
            "due_in_s": result.due_in_s,
            "counts_as_try": result.counts_as_try,
            "fault": result.fault,
            "reply_code": result.reply_code,
            "enhanced_status": result.enhanced_status,
            "reply": result.reply,
            "relay": result.relay,
            "phase": result.phase,
            "duration_s": result.duration_s,
            "transcript": result.transcript,
        }
        for result in results
    ]


def _rows_of_messages(results: Sequence[OutcomeRecord]) -> list[dict[str, object]]:
    return [
        {
            **row,
            "message_id": result.claim.message_id,
            "message_id_seed": result.claim.message_id_seed,
        }
        for row, result in zip(_rows(results), results, strict=True)
    ]
