"""One transaction to be spoken: a message for one recipient, or for several at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby

from postroom.clock import monotonic, utc_now
from postroom.delivery.claims import ClaimBatch
from postroom.delivery.composer import MessageComposer, Payload
from postroom.message.envelope import Envelope
from postroom.relays.selector import RelaySelector
from postroom.smtp.reply import Outcome
from postroom.storage.queue.records import Claim

#: So often in a row a job goes back to its queue without an attempt.
FREE_RETURNS = 2


@dataclass(slots=True, kw_only=True)
class Job:
    """Claims of one message that share a transaction, and the batch that holds them.

    ``router`` is where it has been sent along; None until then. ``returns`` counts how often it
    went back to its queue without an attempt since it was claimed.
    """

    mail: MessageComposer
    claims: tuple[Claim, ...]
    batch: ClaimBatch
    selector: RelaySelector | None = None
    returns: int = 0

    def may_return(self) -> bool:
        """Count one more return to the queue that is no attempt; return whether it is free.

        A relay that drops idle connections may do so once or twice in a row; more is a fault.
        """
        self.returns += 1
        return self.returns <= FREE_RETURNS

    def retry_after_s(self) -> float:
        """Return how long its route rests; 0 where a relay of it may be tried now."""
        return 0.0 if self.selector is None else self.selector.retry_after_s()

    def subset(self, claims: Iterable[Claim]) -> Job:
        """Return the same job for some of its recipients."""
        return replace(self, claims=tuple(claims))


def jobs(
    claims: Iterable[Claim], mails: Mapping[int, MessageComposer], batch: ClaimBatch
) -> Iterator[Job]:
    """Yield one job for each transaction: a copy each, or one for a message sent together."""
    for message_id, group in groupby(claims, key=lambda claim: claim.message_id):
        mail = mails[message_id]
        if mail.message.shared:
            yield Job(mail=mail, claims=tuple(group), batch=batch)
        else:
            for claim in group:
                yield Job(mail=mail, claims=(claim,), batch=batch)


@dataclass(slots=True, kw_only=True)
class Transaction:
    """A job being spoken, and what is known of each recipient so far."""

    job: Job
    envelope: Envelope
    payload: Payload
    outcomes: list[Outcome | None]
    attempted_at: datetime = field(default_factory=utc_now)
    began: float = field(default_factory=monotonic)
    admitted: int = 0

    def open_claims(self) -> tuple[Claim, ...]:
        """Return the claims nothing has been decided about yet."""
        claims = self.job.claims
        if not any(self.outcomes):
            return claims
        return tuple(
            claim for claim, outcome in zip(claims, self.outcomes, strict=True) if outcome is None
        )

    def set_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Fill in what is known of the first open claims; the others stay open."""
        missing = self.outcomes.count(None) - len(outcomes)
        rest = iter((*outcomes, *(None,) * missing))
        self.outcomes = [outcome or next(rest) for outcome in self.outcomes]

    def set_all(self, outcome: Outcome) -> None:
        """Give every open claim the same outcome."""
        self.set_outcomes([outcome] * self.outcomes.count(None))

    def decided(self) -> list[tuple[Claim, Outcome]]:
        """Return each claim about which something has been decided."""
        return [
            (claim, outcome)
            for claim, outcome in zip(self.job.claims, self.outcomes, strict=True)
            if outcome is not None
        ]
