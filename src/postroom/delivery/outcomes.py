"""What a sender tells of its transactions: results for the desk, faults for the breaker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from postroom.backoff import Backoff, SharedBackoff
from postroom.checks import MAX_SECONDS
from postroom.clock import monotonic, utc_now
from postroom.delivery.mail_transaction import Job, Transaction
from postroom.delivery.outcome_buffer import OutcomeBuffer
from postroom.delivery.sender_pool import SenderPool
from postroom.errors import ConfigError, MessageError, named
from postroom.smtp.reply import Outcome, Reply
from postroom.states import Fault, OnDoubt, Phase, RecipientState
from postroom.storage.data_errors import reason_of
from postroom.storage.message_store import StoredMessage
from postroom.storage.queue.records import Claim, OutcomeRecord
from postroom.text import shorten_repr

_MINUTE_S = 60.0
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySchedule:
    """The waits between tries, in seconds, each stretched or shortened by up to ``jitter``.

    Raises:
        ConfigError: a delay is negative, or ``jitter`` is not between 0 and 1.
    """

    delays_s: tuple[float, ...]
    jitter: float = 0.2

    def __post_init__(self) -> None:
        """Refuse what cannot be waited for."""
        delays: Any = self.delays_s
        if not isinstance(delays, tuple) or not all(map(_is_delay, delays)):
            raise ConfigError(
                f"expected retry delays to be 0 or more, got: {shorten_repr(self.delays_s)}"
            )
        if not _is_delay(self.jitter) or self.jitter >= 1:
            raise ConfigError(
                f"expected retry jitter to be from 0 to 1, got: {shorten_repr(self.jitter)}"
            )

    def delay_s(self, tries: int, random: Callable[[], float]) -> float | None:
        """Return how long to wait after a failure that ``tries`` others came before.

        ``tries`` is 0 for the first. ``random`` returns a number from 0 to 1, as
        ``random.random`` does. None means that the schedule is used up.
        """
        if tries >= len(self.delays_s):
            return None
        return self.delays_s[tries] * (1 + self.jitter * (2 * random() - 1))


def _is_delay(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= MAX_SECONDS  # type: ignore[operator]


#: 1, 5, 15, 30 minutes, 1, 2, 4 hours, then every 4 hours until 3 days have passed.
DEFAULT_SCHEDULE = RetrySchedule(
    delays_s=(
        *(minutes * _MINUTE_S for minutes in (1, 5, 15, 30)),
        *(hours * _HOUR_S for hours in (1, 2, *(4,) * 17)),
    )
)


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
class AttemptContext:
    """The circumstances of one attempt.

    ``is_resting`` says that its relay now rests, ``pause_s`` how long its whole route does: 0 where
    another relay may take the mail.
    """

    relay: str
    attempted_at: datetime
    duration_s: float
    transcript: str = ""
    is_resting: bool = False
    retry_after_s: float = 0.0


def accepted_record(claim: Claim, reply: Reply, spoken: AttemptContext) -> OutcomeRecord:
    """Return what to record for ``claim`` where the relay has taken the mail."""
    return OutcomeRecord(
        claim=claim,
        state=_ACCEPTED,
        attempted_at=spoken.attempted_at,
        reply_code=reply.code,
        enhanced_status=reply.enhanced,
        reply=reply.one_line,
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
) -> OutcomeRecord:
    """Return what to record for ``claim`` where no relay has heard of it.

    Args:
        claim: The recipient's.
        state: What becomes of it.
        reply: Why, in words.
        at: When that was decided.
        fault: Whose fault it is; None: nobody's.
        due_in_s: When to try again, in seconds; None ends the work on it.
    """
    return OutcomeRecord(
        claim=claim, state=state, attempted_at=at, reply=reply, fault=fault, due_in_s=due_in_s
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomePolicy:
    """Decides what becomes of a recipient after an attempt.

    ``random`` returns numbers from [0, 1) and spreads retries. ``in_doubt_retry_s`` is the pause
    before the first resend of what is in doubt; after ``max_resends`` of them it is held for a
    person.
    """

    in_doubt_retry_s: float
    random: Callable[[], float]
    max_resends: int = 5

    def record_for(
        self, claim: Claim, message: StoredMessage, outcome: Outcome, spoken: AttemptContext
    ) -> OutcomeRecord:
        """Return what to record for ``claim``."""
        if outcome.state is _ACCEPTED and outcome.reply is not None:
            return accepted_record(claim, outcome.reply, spoken)
        counts = outcome.counts_as_try or _is_hopeless(claim, outcome, spoken)
        state, due_in_s = self._next(claim, message, outcome, spoken, counts=counts)
        reply = outcome.reply
        text = str(reply) if reply else None
        if state is _REJECTED and outcome.state is _DEFERRED:
            tries = claim.try_count if outcome.counts_as_try else claim.attempt_count
            text = f"gave up after {tries + 1} tries; last: {text}"
        elif state is _IN_DOUBT and due_in_s is None and message.on_doubt is not OnDoubt.HOLD:
            text = (
                f"in doubt {claim.in_doubt_count + 1} times, and not sent again by itself: look "
                f"into the relay's log and decide with `postroom resolve`; last: {text}"
            )
        return OutcomeRecord(
            claim=claim,
            state=state,
            attempted_at=spoken.attempted_at,
            due_in_s=due_in_s,
            counts_as_try=counts,
            fault=outcome.fault,
            reply_code=reply.code or None if reply else None,
            enhanced_status=reply.enhanced if reply else None,
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
        spoken: AttemptContext,
        *,
        counts: bool,
    ) -> tuple[RecipientState, float | None]:
        if outcome.state is _DEFERRED and not counts:
            # Neither the recipient's fault nor the message's, as far as anybody can tell.
            pause_s = max(
                spoken.retry_after_s, outcome.retry_after_s or 0.0, _pause_s(claim, spoken)
            )
            return outcome.state, pause_s * (1.0 + 0.2 * self.random())
        if outcome.state is _DEFERRED:
            return self._deferred(claim, message, outcome)
        if outcome.state is _IN_DOUBT:
            return outcome.state, self._resent_in_s(claim, message)
        return outcome.state, None

    def _resent_in_s(self, claim: Claim, message: StoredMessage) -> float | None:
        """Return when a recipient in doubt is sent again; None where a person has to decide."""
        if message.on_doubt is OnDoubt.HOLD or claim.in_doubt_count >= self.max_resends:
            return None
        longest_s = max(_LONGEST_DOUBT_S, self.in_doubt_retry_s)
        return Backoff(first_s=self.in_doubt_retry_s, longest_s=longest_s).pause_s(
            claim.in_doubt_count + 1
        )

    def _deferred(
        self, claim: Claim, message: StoredMessage, outcome: Outcome
    ) -> tuple[RecipientState, float | None]:
        delay_s = _schedule(message).delay_s(claim.try_count, self.random)
        if delay_s is None:
            return _REJECTED, None
        least_s = 0.0 if outcome.counts_as_try else _UNCOUNTED.pause_s(claim.attempt_count + 1)
        return _DEFERRED, max(delay_s, outcome.retry_after_s or 0.0, least_s)


def _is_hopeless(claim: Claim, outcome: Outcome, spoken: AttemptContext) -> bool:
    """Return whether a fault of the relay's, our login's or ours stays with this recipient alone.

    A relay that hangs up whenever it hears one address, while it takes everybody else's mail, has
    a fault that never passes.
    """
    is_deferred = outcome.state is _DEFERRED
    return is_deferred and not spoken.is_resting and claim.attempt_count >= _PATIENCE


def _pause_s(claim: Claim, spoken: AttemptContext) -> float:
    if spoken.is_resting and spoken.retry_after_s <= 0:
        return _UNCOUNTED.first_s  # another relay of the route takes it
    return (_RESTING if spoken.is_resting else _UNCOUNTED).pause_s(claim.attempt_count + 1)


def _schedule(message: StoredMessage) -> RetrySchedule:
    if message.retry_delays_s is None:
        return DEFAULT_SCHEDULE
    return RetrySchedule(delays_s=message.retry_delays_s)


_LEAST_PAUSE_S = 1.0
#: After this machine ran out of disk or memory: mostly it is other mail in hand that takes it.
_SHORTAGE = Backoff(first_s=5.0, longest_s=900.0)
_ACCEPTED = RecipientState.ACCEPTED


class OutcomeReporter:
    """Belongs to one sender of ``outlet``."""

    def __init__(self, outlet: SenderPool, desk: OutcomeBuffer, verdicts: OutcomePolicy) -> None:
        self._outlet = outlet
        self._desk = desk
        self._verdicts = verdicts
        self._shortage = SharedBackoff(_SHORTAGE, clock=monotonic)

    def accepted(self, transaction: Transaction, replies: Sequence[Reply]) -> None:
        """Hand in that the relay has taken the mail for everyone, as it nearly always does."""
        self._outlet.breaker.record(None)
        self._shortage.succeeded()
        spoken = self._spoken(transaction)
        claims = transaction.job.claims
        results = [accepted_record(*both, spoken) for both in zip(claims, replies, strict=True)]
        self._desk.add(results, transaction.admitted)

    def report(self, transaction: Transaction, transcript: Callable[[], str]) -> None:
        """Hand in what is decided; put back what may be spoken again at once.

        ``transcript`` is asked only where somebody will want to read it.
        """
        decided = self._bounded(transaction)
        failed = [outcome for _, outcome in decided if outcome.state is not _ACCEPTED]
        self._tell_breaker(failed, some_accepted=len(failed) < len(decided))
        spoken = self._spoken(transaction)
        if failed:
            spoken.transcript = transcript()
            spoken.is_resting = self._outlet.breaker.retry_after_s() > 0
            spoken.retry_after_s = transaction.job.retry_after_s()
        message = transaction.job.mail.message
        results = [
            self._verdicts.record_for(claim, message, outcome, spoken)
            for claim, outcome in decided
            if not outcome.retry_immediately
        ]
        self._desk.add(results, transaction.admitted)
        if failed and (again := [claim for claim, outcome in decided if outcome.retry_immediately]):
            self._outlet.queue.put_front(transaction.job.subset(again))

    def broken_off(
        self, transaction: Transaction, error: Exception, transcript: Callable[[], str]
    ) -> None:
        """Hand in what an error that nobody foresaw leaves behind: in doubt once past the gate."""
        state = RecipientState.IN_DOUBT if transaction.admitted else RecipientState.DEFERRED
        transaction.set_all(_unexplained(error, state, Phase.DOT if transaction.admitted else None))
        self.report(transaction, transcript)

    def unexplained(self, job: Job, error: Exception) -> None:
        """An error that nobody foresaw, before anything was said of this job: try it later."""
        outcome = _unexplained(error, RecipientState.DEFERRED, None)
        spoken = AttemptContext(
            relay=self._outlet.relay.name,
            attempted_at=utc_now(),
            duration_s=0.0,
            is_resting=self._outlet.breaker.retry_after_s() > 0,
            retry_after_s=job.retry_after_s(),
        )
        message = job.mail.message
        self._desk.add(
            [self._verdicts.record_for(claim, message, outcome, spoken) for claim in job.claims]
        )

    def fell_short(self, job: Job, error: Exception) -> None:
        """This machine or its database failed while the mail was composed: try it later.

        No relay heard of it, and it says nothing about the mail: it is no attempt, and does not
        count. Where it fails again after the pause, the next pause is twice as long.
        """
        reply = f"waiting: this worker could not prepare the mail: {reason_of(error)}"
        pause_s = self._shortage.failed()
        self._settle(job, RecipientState.DEFERRED, reply, fault=Fault.OURSELVES, due_in_s=pause_s)

    def defer(self, job: Job, pause_s: float) -> None:
        """A rate is used up: put the job off until it allows one more, without an attempt."""
        reply = f"waiting: the rate of {self._outlet.relay.name} is used up"
        self._settle(job, RecipientState.DEFERRED, reply, due_in_s=max(pause_s, _LEAST_PAUSE_S))

    def reject_unsendable(self, job: Job, error: MessageError) -> None:
        """The message cannot be composed for these recipients, now or later."""
        self._settle(job, RecipientState.REJECTED, f"not sent: {error}", fault=Fault.MESSAGE)

    def _settle(
        self,
        job: Job,
        state: RecipientState,
        reply: str,
        *,
        fault: Fault | None = None,
        due_in_s: float | None = None,
    ) -> None:
        """Hand in the same for all of a job of which no relay has heard."""
        now = utc_now()
        self._desk.add(
            [
                without_attempt(claim, state, reply, at=now, fault=fault, due_in_s=due_in_s)
                for claim in job.claims
            ]
        )

    @staticmethod
    def _bounded(transaction: Transaction) -> list[tuple[Claim, Outcome]]:
        """Return what is decided; "again, at once" too often in a row is the relay's fault."""
        decided = transaction.decided()
        job = transaction.job
        if not decided or not all(outcome.retry_immediately for _, outcome in decided):
            return decided  # with an outcome for one of them there are fewer the next time
        if job.may_return():
            return decided
        return [
            (claim, replace(outcome, fault=Fault.RELAY, retry_after_s=None))
            for claim, outcome in decided
        ]

    def _spoken(self, transaction: Transaction) -> AttemptContext:
        return AttemptContext(
            relay=self._outlet.relay.name,
            attempted_at=transaction.attempted_at,
            duration_s=monotonic() - transaction.began,
        )

    def _tell_breaker(self, failed: Sequence[Outcome], *, some_accepted: bool) -> None:
        """One mail that went out says that the relay works, whatever became of the others."""
        if some_accepted:
            self._outlet.breaker.record(None)
        elif failed and failed[0].fault is not None:
            self._outlet.breaker.record(failed[0].fault)


def _unexplained(error: Exception, state: RecipientState, phase: Phase | None) -> Outcome:
    text = f"unexpected error: {named(error)}; see the worker's log"
    return Outcome(
        state=state, fault=Fault.OURSELVES, reply=Reply(code=0, lines=(text,)), phase=phase
    )
