"""A transaction of the ledger thread after the database has refused something in it.

The same again, piece by piece: whatever is refused stands alone, is recorded in a form that
always fits or let go of with a line in the log, and holds nothing else up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, delete

from postroom.log import Log
from postroom.storage.data_errors import reason_of
from postroom.storage.ledger import Claim, Ledger, Result
from postroom.storage.models import Tables
from postroom.storage.piecewise import piecewise
from postroom.values.states import Fault, RecipientState

log = Log("postroom.worker")

_LARGEST_CODE = 999


class Refused:
    """Does on ``connection``, piece by piece, what `Books` does at once."""

    def __init__(self, connection: Connection, ledger: Ledger, tables: Tables) -> None:
        self._connection = connection
        self._ledger = ledger
        self._tables = tables

    def record(self, results: Sequence[Result]) -> None:
        """Record results; one that is refused in a plain form, without what was said."""
        piecewise(
            self._connection,
            results,
            lambda some: self._ledger.record(self._connection, some),
            self._record_plainly,
        )

    def release(self, claims: Sequence[Claim]) -> None:
        """Give claims back; the lease of one that is refused runs out."""
        piecewise(
            self._connection,
            claims,
            lambda some: self._ledger.release(self._connection, some),
            lambda claim, error: _let_go("give back a claim", claim, error),
        )

    def intend(self, claims: Sequence[Claim]) -> set[int]:
        """Mark intents; what is refused counts as not held, and does not go out."""
        held = piecewise(
            self._connection,
            claims,
            lambda some: self._ledger.intend(self._connection, some),
            lambda claim, error: _let_go("mark the intent to send", claim, error),
        )
        return set().union(*held)

    def renew(self, claims: Sequence[Claim], lease_s: float) -> set[int]:
        """Extend leases; what is refused counts as not held."""
        held = piecewise(
            self._connection,
            claims,
            lambda some: self._ledger.renew(self._connection, some, lease_s),
            lambda claim, error: _let_go("extend the lease of a claim", claim, error),
        )
        return set().union(*held)

    def _record_plainly(self, result: Result, error: Exception) -> None:
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
            lambda some: self._ledger.record(self._connection, some),
            self._end,
        )

    def _end(self, result: Result, error: Exception) -> None:
        """Nothing can be recorded: at least, what a relay has is not sent again."""
        _let_go(f"record the outcome {result.state.value}", result.claim, error)
        if result.state is RecipientState.ACCEPTED:
            queue = self._tables.queue
            its = queue.c.recipient_id == result.claim.recipient_id
            piecewise(
                self._connection,
                [result.claim],
                lambda some: self._connection.execute(delete(queue).where(its)),
                lambda claim, error: _let_go("take it from the queue", claim, error),
            )


def _plain(result: Result, reason: str) -> Result:
    """Return ``result`` with nothing in it that a database could refuse."""
    code, relay = result.code, result.relay
    return replace(
        result,
        fault=Fault.OURSELVES,
        code=code if isinstance(code, int) and 0 <= code <= _LARGEST_CODE else None,
        enhanced_code=None,
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
