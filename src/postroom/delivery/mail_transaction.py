"""A mail transaction (RFC 5321 section 3.3): one message to one recipient, or to several at once.

It goes from the dispatcher through the queue of a sender pool to a sender, and holds all that is
known of it on the way: claims, envelope and content, and what came of each recipient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from postroom.clock import Clock
from postroom.delivery.claims import ClaimBatch
from postroom.delivery.composer import MessageComposer, Payload
from postroom.message.envelope import Envelope
from postroom.relays.selector import RelaySelector
from postroom.smtp.reply import Outcome
from postroom.storage.queue.records import Claim

#: So often in a row a transaction goes back to its queue without an attempt.
FREE_RETURNS = 2


@dataclass(slots=True, kw_only=True)
class MailTransaction:
    """The claims of one message that share a transaction, and what becomes of them.

    Attributes:
        composer: The message, and what makes its bytes.
        claims: Its recipients.
        batch: What holds the claims.
        selector: What has chosen its relay; None until it was dispatched.
        returns: How often it went back to its queue without an attempt since it was claimed.
        admitted: How many of its recipients the commit gate has let through.
        envelope: MAIL FROM and RCPT TO; from `begin` on, as all that follows.
        payload: The content.
        outcomes: What is known of each claim, in their order; None: nothing yet.
        attempted_at: When the attempt began, UTC.
        began: The same by the local clock, in seconds.
    """

    composer: MessageComposer
    claims: tuple[Claim, ...]
    batch: ClaimBatch
    selector: RelaySelector | None = None
    returns: int = 0
    admitted: int = 0
    envelope: Envelope = field(init=False)
    payload: Payload = field(init=False)
    outcomes: list[Outcome | None] = field(init=False)
    attempted_at: datetime = field(init=False)
    began: float = field(init=False)

    def begin(self, envelope: Envelope, payload: Payload, clock: Clock) -> None:
        """Begin an attempt: nothing is known of any recipient.

        Args:
            envelope: To whom it goes.
            payload: What goes to them.
            clock: What tells the time of the attempt.
        """
        self.envelope = envelope
        self.payload = payload
        self.outcomes = [None] * len(self.claims)
        self.attempted_at = clock.utc_now()
        self.began = clock.monotonic()

    def may_return(self) -> bool:
        """Count one more return to the queue that is no attempt; return whether it is free.

        A relay that drops idle connections may do so once or twice in a row; more is a fault.
        """
        self.returns += 1
        return self.returns <= FREE_RETURNS

    def route_retry_after_s(self) -> float:
        """Return in how many seconds its route may be tried; 0 where a relay of it may be now."""
        return 0.0 if self.selector is None else self.selector.retry_after_s()

    def subset(self, claims: Iterable[Claim]) -> MailTransaction:
        """Return a transaction for some of its recipients, of which nothing is known."""
        return MailTransaction(
            composer=self.composer,
            claims=tuple(claims),
            batch=self.batch,
            selector=self.selector,
            returns=self.returns,
        )

    def open_claims(self) -> tuple[Claim, ...]:
        """Return the claims nothing has been decided about yet."""
        if not any(self.outcomes):
            return self.claims
        return tuple(
            claim
            for claim, outcome in zip(self.claims, self.outcomes, strict=True)
            if outcome is None
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
        """Return each claim about which something has been decided, and what."""
        return [
            (claim, outcome)
            for claim, outcome in zip(self.claims, self.outcomes, strict=True)
            if outcome is not None
        ]


def plan_transactions(
    claims: Iterable[Claim], messages: Mapping[int, MessageComposer], batch: ClaimBatch
) -> Iterator[MailTransaction]:
    """Yield the transactions of ``claims``: a copy each, or one for a shared message.

    Args:
        claims: In the order of their messages.
        messages: Each of their messages, by id.
        batch: What holds the claims.
    """
    for message_id, group in groupby(claims, key=lambda claim: claim.message_id):
        composer = messages[message_id]
        if composer.message.shared:
            yield MailTransaction(composer=composer, claims=tuple(group), batch=batch)
        else:
            for claim in group:
                yield MailTransaction(composer=composer, claims=(claim,), batch=batch)
