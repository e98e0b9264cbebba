"""From what a relay said to what is recorded: when to try again, and when to give up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from postroom.backoff import Backoff
from postroom.storage.contents import StoredMessage
from postroom.storage.ledger import Claim, Result
from postroom.values.reply import Outcome, Reply
from postroom.values.retry import DEFAULT_SCHEDULE, RetrySchedule
from postroom.values.states import Fault, OnDoubt, Phase, RecipientState

# Looking a member up on its class takes a function call on Python 3.11, several times a mail.
_ACCEPTED = RecipientState.ACCEPTED
_DEFERRED = RecipientState.DEFERRED
_REJECTED = RecipientState.REJECTED
_IN_DOUBT = RecipientState.IN_DOUBT
_DOT = Phase.DOT

#: After what counts against nobody's schedule.
_UNCOUNTED = Backoff(first_s=1.0, longest_s=900.0)
#: The same while the relay rests: its mail should not wait much longer than it does.
_RESTING = Backoff(first_s=1.0, longest_s=60.0)
#: After so many attempts even the relay's faults count, where the relay works for others.
_PATIENCE = 5
#: Between two resends of what is in doubt.
_LONGEST_DOUBT_S = 4 * 3600.0


@dataclass(slots=True, kw_only=True)
class Spoken:
    """The circumstances of one attempt.

    ``is_resting`` says that its relay now rests, ``pause_s`` how long its whole route does: 0 where
    another relay may take the mail.
    """

    relay: str
    at: datetime
    duration_s: float
    transcript: str = ""
    is_resting: bool = False
    pause_s: float = 0.0


def accepted(claim: Claim, reply: Reply, spoken: Spoken) -> Result:
    """Return what to record for ``claim`` where the relay has taken the mail."""
    return Result(
        claim=claim,
        state=_ACCEPTED,
        at=spoken.at,
        code=reply.code,
        enhanced_code=reply.enhanced,
        reply=reply.shown,
        relay=spoken.relay,
        phase=_DOT,
        duration_s=spoken.duration_s,
    )


def without_attempt(
    claim: Claim,
    state: RecipientState,
    reply: str,
    *,
    at: datetime,
    fault: Fault | None = None,
    due_in_s: float | None = None,
) -> Result:
    """Return what to record for ``claim`` where no relay has heard of it.

    Args:
        claim: The recipient's.
        state: What becomes of it.
        reply: Why, in words.
        at: When that was decided.
        fault: Whose fault it is; None: nobody's.
        due_in_s: When to try again, in seconds; None ends the work on it.
    """
    return Result(claim=claim, state=state, at=at, reply=reply, fault=fault, due_in_s=due_in_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Decides what becomes of a recipient after an attempt.

    ``random`` returns numbers from [0, 1) and spreads retries. ``doubt_s`` is the pause before
    the first resend of what is in doubt; after ``max_resends`` of them it is held for a person.
    """

    doubt_s: float
    random: Callable[[], float]
    max_resends: int = 5

    def result(
        self, claim: Claim, message: StoredMessage, outcome: Outcome, spoken: Spoken
    ) -> Result:
        """Return what to record for ``claim``."""
        if outcome.state is _ACCEPTED and outcome.reply is not None:
            return accepted(claim, outcome.reply, spoken)
        counts = outcome.counts or _is_hopeless(claim, outcome, spoken)
        state, due_in_s = self._next(claim, message, outcome, spoken, counts=counts)
        reply = outcome.reply
        text = str(reply) if reply else None
        if state is _REJECTED and outcome.state is _DEFERRED:
            tries = claim.tries if outcome.counts else claim.attempts
            text = f"gave up after {tries + 1} tries; last: {text}"
        elif state is _IN_DOUBT and due_in_s is None and message.on_doubt is not OnDoubt.HOLD:
            text = (
                f"in doubt {claim.doubts + 1} times, and not sent again by itself: look into the "
                f"relay's log and decide with `postroom resolve`; last: {text}"
            )
        return Result(
            claim=claim,
            state=state,
            at=spoken.at,
            due_in_s=due_in_s,
            counts=counts,
            fault=outcome.fault,
            code=reply.code or None if reply else None,
            enhanced_code=reply.enhanced if reply else None,
            reply=text or None,
            relay=spoken.relay,
            phase=outcome.phase,
            duration_s=spoken.duration_s,
            transcript=spoken.transcript,
        )

    def _next(
        self,
        claim: Claim,
        message: StoredMessage,
        outcome: Outcome,
        spoken: Spoken,
        *,
        counts: bool,
    ) -> tuple[RecipientState, float | None]:
        if outcome.state is _DEFERRED and not counts:
            # Neither the recipient's fault nor the message's, as far as anybody can tell.
            pause_s = max(spoken.pause_s, outcome.retry_after_s or 0.0, _pause_s(claim, spoken))
            return outcome.state, pause_s * (1.0 + 0.2 * self.random())
        if outcome.state is _DEFERRED:
            return self._deferred(claim, message, outcome)
        if outcome.state is _IN_DOUBT:
            return outcome.state, self._resent_in_s(claim, message)
        return outcome.state, None

    def _resent_in_s(self, claim: Claim, message: StoredMessage) -> float | None:
        """Return when a recipient in doubt is sent again; None where a person has to decide."""
        if message.on_doubt is OnDoubt.HOLD or claim.doubts >= self.max_resends:
            return None
        longest_s = max(_LONGEST_DOUBT_S, self.doubt_s)
        return Backoff(first_s=self.doubt_s, longest_s=longest_s).pause_s(claim.doubts + 1)

    def _deferred(
        self, claim: Claim, message: StoredMessage, outcome: Outcome
    ) -> tuple[RecipientState, float | None]:
        delay_s = _schedule(message).delay_s(claim.tries, self.random)
        if delay_s is None:
            return _REJECTED, None
        least_s = 0.0 if outcome.counts else _UNCOUNTED.pause_s(claim.attempts + 1)
        return _DEFERRED, max(delay_s, outcome.retry_after_s or 0.0, least_s)


def _is_hopeless(claim: Claim, outcome: Outcome, spoken: Spoken) -> bool:
    """Return whether a fault of the relay's, our login's or ours stays with this recipient alone.

    A relay that hangs up whenever it hears one address, while it takes everybody else's mail, has
    a fault that never passes.
    """
    is_deferred = outcome.state is _DEFERRED
    return is_deferred and not spoken.is_resting and claim.attempts >= _PATIENCE


def _pause_s(claim: Claim, spoken: Spoken) -> float:
    if spoken.is_resting and spoken.pause_s <= 0:
        return _UNCOUNTED.first_s  # another relay of the route takes it
    return (_RESTING if spoken.is_resting else _UNCOUNTED).pause_s(claim.attempts + 1)


def _schedule(message: StoredMessage) -> RetrySchedule:
    if message.retry_delays is None:
        return DEFAULT_SCHEDULE
    return RetrySchedule(delays_s=message.retry_delays)
