"""The books of delivery: who is due, who holds whom, and what came of it.

Values and the boundary; ``sqlite.py`` and ``postgresql.py`` hold the statements. Every call runs
inside the caller's write transaction and commits nothing.
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

#: No lane of ours, or no time that an application can ask for (the last is 9999-12-31, rounded),
#: means that another program or a defect has written to the queue.
LANES = tuple(lane.rank for lane in Lane)
LATEST_DUE_S = 253_402_387_200

#: How many rows of the queue that make no sense are claimed at a time.
MOST_STRAYS = 1_000

#: RFC 5321 section 4.5.3.1 has 256 for a path; a name is not held against it here.
_LONGEST_ADDRESS = 320

#: What would end a command or a header field.

_LONGEST_SHOWN = 200

_KEPT_REPLY_CHARACTERS = 2_000
_KEPT_TRANSCRIPT_CHARACTERS = 20_000
_KEPT_CODE_CHARACTERS = 12

#: The longest pause, and the one instead of what is no time.
_LONGEST_PAUSE_S = 1e9
_LATER_S = 3600.0

# Claims and results are not frozen, though nothing changes them: one of each is made for every
# mail, and freezing makes that three times as dear.


@dataclass(slots=True, kw_only=True)
class Claim:
    """One recipient leased to a worker.

    ``claims`` counts leases since the last outcome, this one included; ``tries`` the deferrals
    that count against the retry schedule. ``has_intent`` means that an earlier worker had
    committed its intent to write the final dot and left no outcome. ``suppressed_because`` is
    set where the address stands on the suppression list. ``lane`` is the lane's rank, and
    ``claimed_at`` the database's clock, in seconds since the epoch. ``attempts`` counts all
    attempts so far, ``doubts`` those among them that ended in doubt.

    ``message_token`` is the random one of the message, None where that is gone: where ids begin
    again (a restored backup, tables emptied under a worker), it still tells one mail from another.

    ``unreadable_because`` says what is wrong with rows that make no claim one could act on: it
    names the column. Such a claim is for setting aside; what could not be read of it is empty.
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
    """What came of one claim.

    ``due_in_s`` puts the recipient back into the queue; None ends the work on it. ``relay`` names
    the relay that was spoken to (or could not be); None where there was no attempt to record.
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
    """What a worker asks for: how many of each lane (by rank), for how long, under which token.

    With ``takes_strays`` also the rows of the queue that make no sense: of a lane that is none,
    or due at a time that is none. They come as claims that are unreadable.
    """

    limits: Mapping[int, int]
    lease_s: float
    lease_token: int
    takes_strays: bool = False


class QueueStore(Protocol):
    """The statements of one database. All times are seconds by the database's clock.

    ``gather_s`` is how long a commit should wait for more outcomes while they come fast.
    """

    commit_delay_s: float

    def claim(self, connection: Connection, lease: ClaimRequest) -> list[Claim]:
        """Lease what is due, oldest first within a lane, skipping what others are leasing."""
        ...

    def record(self, connection: Connection, results: Sequence[OutcomeRecord]) -> None:
        """Write outcomes and attempts.

        ``accepted`` is written whoever holds the claim by now; every other outcome only where
        its token still holds. The attempt is written in any case: it happened. But nothing is
        written about a recipient whose message is gone, whoever has its id by now.

        Rows are locked by recipient, those of the queue before the recipients themselves: a
        decision that waits for one of them never waits in a circle.
        """
        ...

    def mark_intent(self, connection: Connection, claims: Sequence[Claim]) -> set[int]:
        """Mark that the final dot is about to be written; return the recipients still held."""
        ...

    def renew(self, connection: Connection, claims: Sequence[Claim], lease_s: float) -> set[int]:
        """Extend leases that still hold; return the recipients they hold."""
        ...

    def release(self, connection: Connection, claims: Sequence[Claim]) -> None:
        """Give back what was claimed and not tried, due now, as if it had not been claimed."""
        ...

    def is_empty(self, connection: Connection) -> bool:
        """Return whether nothing is left in the queue, due or not."""
        ...


def named(sql: str, tables: Tables, dialect: Dialect, **more: str) -> str:
    """Return ``sql`` with the tables' names in it, quoted where the schema's name needs it."""
    quoted = dialect.identifier_preparer.format_table
    return sql.format(
        message=quoted(tables.message),
        recipient=quoted(tables.recipient),
        queue=quoted(tables.queue),
        attempt=quoted(tables.attempt),
        suppression=quoted(tables.suppression),
        doubts=DOUBTS.format(attempt=quoted(tables.attempt)),
        **more,
    )


def without_repeats(results: Iterable[OutcomeRecord]) -> Iterator[list[OutcomeRecord]]:
    """Split results so that each id means one thing in a batch; sort each batch by recipient.

    A lease that ran out may have been claimed again by the same worker: both outcomes can wait
    for the same commit, and one statement must not update one row twice. A message may have the
    id of an earlier one, and both be in hand.
    """
    batch: list[OutcomeRecord] = []
    seen: set[int] = set()
    tokens: dict[int, str | None] = {}
    for result in results:
        claim = result.claim
        token = tokens.setdefault(claim.message_id, claim.message_id_seed)
        if claim.recipient_id in seen or token != claim.message_id_seed:
            yield sorted(batch, key=_by_recipient)
            batch, seen = [], set()
            tokens = {claim.message_id: claim.message_id_seed}
        batch.append(result)
        seen.add(claim.recipient_id)
    if batch:
        yield sorted(batch, key=_by_recipient)


_by_recipient = attrgetter("claim.recipient_id")


#: How many attempts of the recipient ``r`` ended in doubt; one that has none is not looked for.
DOUBTS = """CASE WHEN r.attempt_count = 0 THEN 0 ELSE (
    SELECT count(*) FROM {attempt} AS a WHERE a.recipient_id = r.id AND a.outcome = 'in_doubt'
    ) END"""


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


#: One for all rows: `json.loads` makes a decoder anew where it is given options.
_decode = json.JSONDecoder(parse_constant=_refuse).decode


def claims_of(rows: Iterable[Sequence[Any]], token: int) -> list[Claim]:
    """Return the claims of rows as the databases give them, however odd one of them is.

    Columns: recipient, message, address (None where there is no such recipient), name, variables
    as text, claims, tries, intent, why the address is suppressed, lane, the database's clock,
    attempts, how many of them ended in doubt, and the message's token, which only the first of
    its recipients in a row needs to bring. A text that is none comes as bytes.
    """
    claims: list[Claim] = []
    message_tokens: dict[Any, str] = {}
    for row in rows:
        message_token = row[13]
        if type(message_token) is str:
            message_tokens[row[1]] = message_token
        else:
            message_token = message_tokens.get(row[1])
        claims.append(_claim(row, token, message_token))
    return claims


# For every mail: the types are compared as they are.
def _claim(row: Sequence[Any], token: int, message_token: str | None) -> Claim:
    recipient_id, message_id, address, name, variables, claims, tries = row[:7]
    intent, reason, lane, at, attempts, doubts, _ = row[7:]
    try:
        is_sound = (
            type(address) is type(name) is str
            and type(message_id) is type(claims) is type(tries) is type(attempts) is int
            and "@" in address
            and len(address) <= _LONGEST_ADDRESS
            and (address.isprintable() or not UNWRITABLE.search(address))
            and (not name or name.isprintable() or not UNWRITABLE.search(name))
            and (reason is None or type(reason) is str)
            and lane in LANES
        )
        known = None if variables is None else _decode(variables)
    except Exception:
        is_sound, known = False, None
    if not is_sound or not (known is None or type(known) is dict):
        return _unreadable(row, token, _complaint(row), message_token)
    return Claim(
        recipient_id=recipient_id,
        message_id=message_id,
        lease_token=token,
        address=address,
        name=name,
        variables=known,
        claim_count=claims,
        try_count=tries,
        has_intent=bool(intent),
        suppression_reason=reason,
        lane=lane,
        claimed_at=at,
        attempt_count=attempts,
        in_doubt_count=doubts,
        message_id_seed=message_token,
    )


def strays_of(rows: Iterable[Sequence[Any]], token: int) -> list[Claim]:
    """Return the claims of rows, as `claims_of` has them, whose place in the queue makes no sense.

    Which of the two it is that is wrong, lane or due time, is told by the lane.
    """
    return [
        _unreadable(
            row, token, _lane_complaint(row) or "queue.due_at is no time, or too late a one"
        )
        for row in rows
    ]


def _unreadable(
    row: Sequence[Any], token: int, because: str, message_token: str | None = None
) -> Claim:
    recipient_id, message_id, address, _, _, claims, _, intent, _, lane, at = row[:11]
    return Claim(
        recipient_id=recipient_id,
        message_id=message_id if type(message_id) is int else 0,
        lease_token=token,
        address="" if address is None else _shown(address),
        name="",
        variables=None,
        claim_count=claims if type(claims) is int else 1,
        try_count=0,
        has_intent=bool(intent),
        suppression_reason=None,
        unreadable_because=because,
        message_id_seed=message_token,
        lane=lane if lane in LANES else Lane.NORMAL.rank,
        claimed_at=at,
    )


#: Where in a row which column is, and what it should be.
_COLUMNS: tuple[tuple[int, str, type], ...] = (
    (1, "queue.message_id", int),
    (2, "recipient.address", str),
    (3, "recipient.name", str),
    (5, "queue.claim_count", int),
    (6, "queue.try_count", int),
    (11, "recipient.attempt_count", int),
)


def _complaint(row: Sequence[Any]) -> str:
    """Say which column of a row is wrong."""
    if row[2] is None:
        return "its row in the queue names no recipient of that message"
    for place, column, kind in _COLUMNS:
        if type(row[place]) is not kind:
            return f"{column} is {_quoted(row[place])}"
    if "@" not in row[2] or len(row[2]) > _LONGEST_ADDRESS or UNWRITABLE.search(row[2]):
        return f"recipient.address is {_quoted(row[2])}, which is no address"
    if UNWRITABLE.search(row[3]):
        return f"recipient.name is {_quoted(row[3])}, with characters that no header may have"
    if row[8] is not None and type(row[8]) is not str:
        return f"suppression.reason is {_quoted(row[8])}"
    return _lane_complaint(row) or (
        f"recipient.variables is {_quoted(row[4])}, which is no JSON object that can be read"
    )


def _lane_complaint(row: Sequence[Any]) -> str:
    return "" if row[9] in LANES else f"queue.lane is {_quoted(row[9])}, which is no lane"


def _quoted(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def _shown(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def fitted(results: Iterable[OutcomeRecord]) -> None:
    """Make results such as every database keeps: no NUL, no lone surrogate, no excess.

    Relays, templates and errors make the texts up. Every result passes here, and nowhere else.
    """
    for result in results:
        reply, transcript, code = result.reply, result.transcript, result.enhanced_status
        if reply is not None:
            result.reply = storable(reply, _KEPT_REPLY_CHARACTERS)
        if transcript:
            result.transcript = storable(transcript, _KEPT_TRANSCRIPT_CHARACTERS)
        if code is not None and len(code) > _KEPT_CODE_CHARACTERS:
            result.enhanced_status = None
        if result.due_in_s is not None and not result.due_in_s < _LONGEST_PAUSE_S:
            result.due_in_s = _LATER_S


def storable(text: str, longest: int) -> str:
    """Return ``text``, whoever made it up, as every database can keep it."""
    if "\0" in text or not text.isascii():
        text = text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text[:longest]
