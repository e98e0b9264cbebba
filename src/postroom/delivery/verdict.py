"""From what a relay said to what is recorded: when to try again, and when to give up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from postroom.storage.contents import StoredMessage
from postroom.storage.ledger import Claim, Result
from postroom.values.reply import Outcome, Reply
from postroom.values.retry import DEFAULT_SCHEDULE, RetrySchedule
from postroom.values.states import OnDoubt, Phase, RecipientState

# Looking a member up on its class takes a function call on Python 3.11, several times a mail.
_ACCEPTED = RecipientState.ACCEPTED
_DEFERRED = RecipientState.DEFERRED
_REJECTED = RecipientState.REJECTED
_IN_DOUBT = RecipientState.IN_DOUBT
_DOT = Phase.DOT

_KEPT_REPLY_CHARACTERS = 2_000
_KEPT_TRANSCRIPT_CHARACTERS = 20_000
_LEAST_PAUSE_S = 1.0


@dataclass(slots=True, kw_only=True)
class Spoken:
    """The circumstances of one attempt; ``pause_s`` is how long its relay now rests."""

    relay: str
    at: datetime
    duration_s: float
    transcript: str = ""
    pause_s: float = 0.0


def accepted(claim: Claim, reply: Reply, spoken: Spoken) -> Result:
    """Return what to record for ``claim`` where the relay has taken the mail."""
    return Result(
        claim=claim,
        state=_ACCEPTED,
        at=spoken.at,
        code=reply.code,
        enhanced_code=reply.enhanced,
        reply=storable(reply.shown),
        relay=spoken.relay,
        phase=_DOT,
        duration_s=spoken.duration_s,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Decides what becomes of a recipient after an attempt.

    ``random`` returns numbers from [0, 1) and spreads retries.
    """

    doubt_s: float
    random: Callable[[], float]

    def result(
        self, claim: Claim, message: StoredMessage, outcome: Outcome, spoken: Spoken
    ) -> Result:
        """Return what to record for ``claim``."""
        if outcome.state is _ACCEPTED and outcome.reply is not None:
            return accepted(claim, outcome.reply, spoken)
        state, due_in_s = self._next(claim, message, outcome, spoken)
        reply = outcome.reply
        text = str(reply) if reply else None
        if state is _REJECTED and outcome.state is _DEFERRED:
            text = f"gave up after {claim.tries + 1} tries; last: {text}"
        return Result(
            claim=claim,
            state=state,
            at=spoken.at,
            due_in_s=due_in_s,
            counts=outcome.counts,
            fault=outcome.fault,
            code=reply.code or None if reply else None,
            enhanced_code=reply.enhanced if reply else None,
            reply=storable(text) if text else None,
            relay=spoken.relay,
            phase=outcome.phase,
            duration_s=spoken.duration_s,
            transcript=_transcript(spoken),
        )

    def _next(
        self, claim: Claim, message: StoredMessage, outcome: Outcome, spoken: Spoken
    ) -> tuple[RecipientState, float | None]:
        if outcome.state is _DEFERRED and not outcome.counts:
            # Neither the recipient's fault nor the message's: as soon as the relay is back.
            pause_s = max(spoken.pause_s, outcome.retry_after_s or 0.0, _LEAST_PAUSE_S)
            return outcome.state, pause_s * (1.0 + 0.2 * self.random())
        if outcome.state is _DEFERRED:
            return self._deferred(claim, message, outcome)
        if outcome.state is _IN_DOUBT:
            is_held = message.on_doubt is OnDoubt.HOLD
            return outcome.state, None if is_held else self.doubt_s
        return outcome.state, None

    def _deferred(
        self, claim: Claim, message: StoredMessage, outcome: Outcome
    ) -> tuple[RecipientState, float | None]:
        delay_s = _schedule(message).delay_s(claim.tries, self.random)
        if delay_s is None:
            return _REJECTED, None
        return _DEFERRED, max(delay_s, outcome.retry_after_s or 0.0)


def _schedule(message: StoredMessage) -> RetrySchedule:
    if message.retry_delays is None:
        return DEFAULT_SCHEDULE
    return RetrySchedule(delays_s=message.retry_delays)


def _transcript(spoken: Spoken) -> str:
    return storable(spoken.transcript, _KEPT_TRANSCRIPT_CHARACTERS)


def storable(text: str, longest: int = _KEPT_REPLY_CHARACTERS) -> str:
    """Return ``text``, which a relay may have made up, as every database can keep it."""
    if "\0" in text or not text.isascii():
        text = text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text[:longest]
