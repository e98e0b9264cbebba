"""The books of delivery: who is due, who holds whom, and what came of it.

Values and the boundary; ``sqlite.py`` and ``postgresql.py`` hold the statements. Every call runs
inside the caller's write transaction and commits nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection

from postroom.values.states import Fault, Phase, RecipientState

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
    """

    recipient_id: int
    message_id: int
    token: int
    lane: int
    claimed_at: float
    address: str
    name: str
    variables: Mapping[str, Any] | None
    claims: int
    tries: int
    has_intent: bool
    suppressed_because: str | None
    attempts: int
    doubts: int


@dataclass(slots=True, kw_only=True)
class Result:
    """What came of one claim.

    ``due_in_s`` puts the recipient back into the queue; None ends the work on it. ``relay`` names
    the relay that was spoken to (or could not be); None where there was no attempt to record.
    """

    claim: Claim
    state: RecipientState
    at: datetime
    due_in_s: float | None = None
    counts: bool = False
    fault: Fault | None = None
    code: int | None = None
    enhanced_code: str | None = None
    reply: str | None = None
    relay: str | None = None
    phase: Phase | None = None
    duration_s: float | None = None
    transcript: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What a worker asks for: how many of each lane (by rank), for how long, under which token."""

    limits: Mapping[int, int]
    lease_s: float
    token: int


class Ledger(Protocol):
    """The statements of one database. All times are seconds by the database's clock.

    ``gather_s`` is how long a commit should wait for more outcomes while they come fast.
    """

    gather_s: float

    def claim(self, connection: Connection, lease: Lease) -> list[Claim]:
        """Lease what is due, oldest first within a lane, skipping what others are leasing."""
        ...

    def record(self, connection: Connection, results: Sequence[Result]) -> None:
        """Write outcomes and attempts.

        ``accepted`` is written whoever holds the claim by now; every other outcome only where
        its token still holds. The attempt is written in any case: it happened.
        """
        ...

    def intend(self, connection: Connection, claims: Sequence[Claim]) -> set[int]:
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


def distinct_batches(results: Iterable[Result]) -> Iterator[list[Result]]:
    """Split results so that no recipient occurs twice in one batch, in their order.

    A lease that ran out may have been claimed again by the same worker: both outcomes can wait
    for the same commit, and one statement must not update one row twice.
    """
    batch: list[Result] = []
    seen: set[int] = set()
    for result in results:
        if result.claim.recipient_id in seen:
            yield batch
            batch, seen = [], set()
        batch.append(result)
        seen.add(result.claim.recipient_id)
    if batch:
        yield batch


#: How many attempts of the recipient ``r`` ended in doubt; one that has none is not looked for.
DOUBTS = """CASE WHEN r.attempts = 0 THEN 0 ELSE (
    SELECT count(*) FROM {attempt} AS a WHERE a.recipient_id = r.id AND a.outcome = 'in_doubt'
    ) END"""


def decoded(variables: str | None) -> Mapping[str, Any] | None:
    """Return the value of a JSON column that was read as text."""
    if variables is None or variables == "null":
        return None
    found: Mapping[str, Any] | None = json.loads(variables)
    return found
