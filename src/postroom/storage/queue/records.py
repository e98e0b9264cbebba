"""The values and the protocol of the queue store: who is due, who holds it, and what came of it.

``sqlite.py`` and ``postgresql.py`` have the statements. Every call runs in the caller's write
transaction and commits nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Protocol

from sqlalchemy import Connection, Dialect

from postroom.states import Fault, Lane, Phase, RecipientState
from postroom.storage.tables import Tables
from postroom.text import UNWRITABLE

#: Another lane, or a due time that no application can ask for (the last is 9999-12-31, rounded),
#: means that another program or a bug has written to the queue.
LANES = tuple(lane.rank for lane in Lane)
LATEST_DUE_S = 253_402_387_200

#: How many invalid rows of the queue are claimed at a time.
MAX_INVALID_ROWS = 1_000

#: RFC 5321 section 4.5.3.1 allows 256 for a path. This is looser: the relay has the last word.
_MAX_ADDRESS_CHARACTERS = 320

_SHOWN_CHARACTERS = 200

_KEPT_REPLY_CHARACTERS = 2_000
_KEPT_TRANSCRIPT_CHARACTERS = 20_000
_KEPT_CODE_CHARACTERS = 12

#: The longest delay, and the one that replaces a delay that is not a number.
_LONGEST_PAUSE_S = 1e9
_LATER_S = 3600.0

#: How many attempts of the recipient ``r`` ended in doubt; without attempts nothing is looked up.
IN_DOUBT_COUNT = """CASE WHEN r.attempt_count = 0 THEN 0 ELSE (
    SELECT count(*) FROM {attempt} AS a WHERE a.recipient_id = r.id AND a.outcome = 'in_doubt'
    ) END"""

_by_recipient = attrgetter("claim.recipient_id")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


#: One for all rows: `json.loads` makes a new decoder each time it is called with options.
_decode = json.JSONDecoder(parse_constant=_refuse).decode

#: Index in the row, name and type of each column that is checked.
_COLUMNS: tuple[tuple[int, str, type], ...] = (
    (1, "queue.message_id", int),
    (2, "recipient.address", str),
    (3, "recipient.name", str),
    (5, "queue.claim_count", int),
    (6, "queue.try_count", int),
    (11, "recipient.attempt_count", int),
)


# Claims and outcomes are not frozen: one of each is made for every mail, and making a frozen one
# takes three times as long.
@dataclass(slots=True, kw_only=True)
class Claim:
    """One recipient that is leased to a worker.

    Attributes:
        recipient_id: The recipient.
        message_id: Its message; 0 if it cannot be read.
        lease_token: Token of the lease. Writes on behalf of the claim are conditional on it.
        lane: Rank of the lane.
        claimed_at: When it was claimed, by the database's clock: seconds since the epoch.
        address: The address, without a name.
        name: The display name; may be empty.
        variables: The recipient's template variables; None if there are none.
        claim_count: Leases since the last outcome, this one included.
        try_count: Deferrals that count against the retry schedule.
        has_intent: True if an earlier worker committed its intent to send and left no outcome.
        suppression_reason: Why the address is suppressed; None if it is not.
        attempt_count: All attempts so far.
        in_doubt_count: Those attempts that ended in doubt.
        message_id_seed: The message's random seed, None if the message is gone. If ids are reused
            (a restored backup, tables emptied under a worker), it still tells messages apart.
        unreadable_because: Set if the rows cannot be acted on: names the wrong column. Such a claim
            is to be set aside; fields that could not be read are empty.
    """

    recipient_id: int
    message_id: int
    lease_token: int
    lane: int
    claimed_at: float
    address: str
    name: str
    variables: Mapping[str, Any] | None
    claim_count: int
    try_count: int
    has_intent: bool
    suppression_reason: str | None
    attempt_count: int = 0
    in_doubt_count: int = 0
    message_id_seed: str | None = None
    unreadable_because: str | None = None


@dataclass(slots=True, kw_only=True)
class OutcomeRecord:
    """The outcome of one claim, as it is written to the database.

    Attributes:
        claim: The claim.
        state: The recipient's new state.
        attempted_at: When the attempt began, in UTC.
        due_in_s: Seconds until the recipient is due again; None ends the work on it.
        counts_as_try: True if the deferral counts against the retry schedule.
        fault: What the failure is blamed on; None if there was none.
        reply_code: The relay's reply code, such as 550.
        enhanced_status: The enhanced status code (RFC 3463), such as ``5.1.1``.
        reply: The relay's reply, or another reason as text.
        relay: The relay that was tried; None if there was no attempt to record.
        phase: The phase of the SMTP session in which it ended.
        duration_s: Seconds that the attempt took.
        transcript: The SMTP session; None if it is not kept.
    """

    claim: Claim
    state: RecipientState
    attempted_at: datetime
    due_in_s: float | None = None
    counts_as_try: bool = False
    fault: Fault | None = None
    reply_code: int | None = None
    enhanced_status: str | None = None
    reply: str | None = None
    relay: str | None = None
    phase: Phase | None = None
    duration_s: float | None = None
    transcript: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """What a worker asks for.

    Attributes:
        limits: The most recipients to claim from each lane, by the lane's rank.
        lease_s: Seconds that the claims are leased for.
        lease_token: Token for the new leases.
        takes_invalid_rows: Also claim rows of the queue with an unknown lane or an impossible due
            time. They come as claims with ``unreadable_because``.
    """

    limits: Mapping[int, int]
    lease_s: float
    lease_token: int
    takes_invalid_rows: bool = False


class QueueStore(Protocol):
    """The queue's statements for one database. All times are seconds by the database's clock.

    Attributes:
        commit_delay_s: Seconds that a commit should wait for more outcomes while they come fast.
    """

    commit_delay_s: float

    def claim(self, connection: Connection, request: ClaimRequest) -> list[Claim]:
        """Lease due recipients, oldest first in each lane; skip those that others are leasing now.

        Args:
            connection: A connection in a write transaction.
            request: How many, for how long, and under which token.
        """
        ...

    def record(self, connection: Connection, results: Sequence[OutcomeRecord]) -> None:
        """Write outcomes and attempts.

        ``accepted`` is written whoever holds the claim by now; every other outcome only if its
        token is still valid. The attempt is always written, because it happened. But nothing is
        written about a recipient whose message is gone, even if another recipient has its id by
        now.

        Rows are locked by recipient, those of the queue before the recipients themselves: an action
        that waits for one of them never waits in a circle.

        Args:
            connection: A connection in a write transaction.
            results: The outcomes. Texts in them are cut and cleaned in place.
        """
        ...

    def mark_intent(self, connection: Connection, claims: Sequence[Claim]) -> set[int]:
        """Mark that the final dot is about to be written; return the recipients still held.

        Args:
            connection: A connection in a write transaction.
            claims: The claims that are about to be sent.
        """
        ...

    def renew(self, connection: Connection, claims: Sequence[Claim], lease_s: float) -> set[int]:
        """Extend leases that are still valid; return the recipients still held.

        Args:
            connection: A connection in a write transaction.
            claims: The claims to extend.
            lease_s: Seconds from now.
        """
        ...

    def release(self, connection: Connection, claims: Sequence[Claim]) -> None:
        """Give back claims that were not tried: due now, as if they had not been claimed.

        Args:
            connection: A connection in a write transaction.
            claims: The claims to give back.
        """
        ...

    def is_empty(self, connection: Connection) -> bool:
        """Return whether the queue has no rows, due or not."""
        ...


def named(sql: str, tables: Tables, dialect: Dialect, **more: str) -> str:
    """Return ``sql`` with the tables' names filled in, quoted if the schema's name needs it.

    Args:
        sql: A statement with placeholders such as ``{queue}``.
        tables: The outbox's tables.
        dialect: SQLite's or PostgreSQL's.
        more: Further placeholders.
    """
    quoted = dialect.identifier_preparer.format_table
    return sql.format(
        message=quoted(tables.message),
        recipient=quoted(tables.recipient),
        queue=quoted(tables.queue),
        attempt=quoted(tables.attempt),
        suppression=quoted(tables.suppression),
        in_doubt_count=IN_DOUBT_COUNT.format(attempt=quoted(tables.attempt)),
        **more,
    )


def without_repeats(results: Iterable[OutcomeRecord]) -> Iterator[list[OutcomeRecord]]:
    """Split results so that each id means one thing in a batch; sort each batch by recipient.

    After a lease expired, the same worker may have claimed the recipient again. Then both outcomes
    may wait for the same commit, and one statement must not update a row twice. Likewise, a message
    may have the id of an earlier one.
    """
    batch: list[OutcomeRecord] = []
    seen: set[int] = set()
    seeds: dict[int, str | None] = {}
    for result in results:
        claim = result.claim
        seed = seeds.setdefault(claim.message_id, claim.message_id_seed)
        if claim.recipient_id in seen or seed != claim.message_id_seed:
            yield sorted(batch, key=_by_recipient)
            batch, seen = [], set()
            seeds = {claim.message_id: claim.message_id_seed}
        batch.append(result)
        seen.add(claim.recipient_id)
    if batch:
        yield sorted(batch, key=_by_recipient)


def claims_of(rows: Iterable[Sequence[Any]], lease_token: int) -> list[Claim]:
    """Return the claims of rows as the databases return them, however invalid one of them is.

    Columns: recipient id, message id, address (None if there is no such recipient), name, variables
    as text, claim count, try count, intent, suppression reason, lane, the database's clock, attempt
    count, in-doubt count, and the message's seed, which only the first of the message's consecutive
    rows has to bring. A text that is not UTF-8 comes as bytes.
    """
    claims: list[Claim] = []
    seeds: dict[Any, str] = {}
    for row in rows:
        seed = row[13]
        if type(seed) is str:
            seeds[row[1]] = seed
        else:
            seed = seeds.get(row[1])
        claims.append(_claim(row, lease_token, seed))
    return claims


# Runs for every mail: comparing types with ``is`` is faster than `isinstance`.
def _claim(row: Sequence[Any], lease_token: int, seed: str | None) -> Claim:
    recipient_id, message_id, address, name, variables, claims, tries = row[:7]
    intent, reason, lane, at, attempts, in_doubt_count, _ = row[7:]
    try:
        is_sound = (
            type(address) is type(name) is str
            and type(message_id) is type(claims) is type(tries) is type(attempts) is int
            and "@" in address
            and len(address) <= _MAX_ADDRESS_CHARACTERS
            and (address.isprintable() or not UNWRITABLE.search(address))
            and (not name or name.isprintable() or not UNWRITABLE.search(name))
            and (reason is None or type(reason) is str)
            and lane in LANES
        )
        decoded = None if variables is None else _decode(variables)
    except Exception:
        is_sound, decoded = False, None
    if not is_sound or not (decoded is None or type(decoded) is dict):
        return _unreadable(row, lease_token, _complaint(row), seed)
    return Claim(
        recipient_id=recipient_id,
        message_id=message_id,
        lease_token=lease_token,
        address=address,
        name=name,
        variables=decoded,
        claim_count=claims,
        try_count=tries,
        has_intent=bool(intent),
        suppression_reason=reason,
        lane=lane,
        claimed_at=at,
        attempt_count=attempts,
        in_doubt_count=in_doubt_count,
        message_id_seed=seed,
    )


def invalid_claims_of(rows: Iterable[Sequence[Any]], lease_token: int) -> list[Claim]:
    """Return the claims of rows, as for `claims_of`, whose lane or due time is invalid.

    If the lane is valid, it is the due time.
    """
    return [
        _unreadable(
            row,
            lease_token,
            _lane_complaint(row) or "queue.due_at is not a time, or is too far in the future",
        )
        for row in rows
    ]


def _unreadable(
    row: Sequence[Any], lease_token: int, reason: str, seed: str | None = None
) -> Claim:
    recipient_id, message_id, address, _, _, claims, _, intent, _, lane, at = row[:11]
    return Claim(
        recipient_id=recipient_id,
        message_id=message_id if type(message_id) is int else 0,
        lease_token=lease_token,
        address="" if address is None else _as_text(address),
        name="",
        variables=None,
        claim_count=claims if type(claims) is int else 1,
        try_count=0,
        has_intent=bool(intent),
        suppression_reason=None,
        unreadable_because=reason,
        message_id_seed=seed,
        lane=lane if lane in LANES else Lane.NORMAL.rank,
        claimed_at=at,
    )


def _complaint(row: Sequence[Any]) -> str:
    """Say which column of a row is wrong."""
    if row[2] is None:
        return "its row in the queue does not name a recipient of that message"
    for index, column, kind in _COLUMNS:
        if type(row[index]) is not kind:
            return f"{column} is {_shorten(row[index])}"
    if "@" not in row[2] or len(row[2]) > _MAX_ADDRESS_CHARACTERS or UNWRITABLE.search(row[2]):
        return f"recipient.address is {_shorten(row[2])}, which is not an address"
    if UNWRITABLE.search(row[3]):
        return f"recipient.name is {_shorten(row[3])}, with characters that no header allows"
    if row[8] is not None and type(row[8]) is not str:
        return f"suppression.reason is {_shorten(row[8])}"
    return _lane_complaint(row) or (
        f"recipient.variables is {_shorten(row[4])}, which is not a JSON object"
    )


def _lane_complaint(row: Sequence[Any]) -> str:
    return "" if row[9] in LANES else f"queue.lane is {_shorten(row[9])}, which is not a lane"


def _shorten(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def _as_text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def sanitize(results: Iterable[OutcomeRecord]) -> None:
    """Make outcomes storable in every database: no NUL, no lone surrogate, no overlong text.

    Relays, templates and errors produce these texts. Every outcome passes here, and nowhere else.
    """
    for result in results:
        reply, transcript, code = result.reply, result.transcript, result.enhanced_status
        if reply is not None:
            result.reply = sanitized_text(reply, _KEPT_REPLY_CHARACTERS)
        if transcript:
            result.transcript = sanitized_text(transcript, _KEPT_TRANSCRIPT_CHARACTERS)
        if code is not None and len(code) > _KEPT_CODE_CHARACTERS:
            result.enhanced_status = None
        if result.due_in_s is not None and not result.due_in_s < _LONGEST_PAUSE_S:
            result.due_in_s = _LATER_S


def sanitized_text(text: str, max_characters: int) -> str:
    """Return ``text`` as every database can store it, cut after ``max_characters``."""
    if "\0" in text or not text.isascii():
        text = text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text[:max_characters]
