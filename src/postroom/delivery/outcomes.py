"""From replies to outcomes: what is recorded for each recipient, and when it is tried again.

A sender reports here; outcomes go into the outcome buffer, faults to the circuit breaker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from postroom.backoff import Backoff, SharedBackoff
from postroom.checks import MAX_SECONDS
from postroom.clock import Clock
from postroom.delivery.mail_transaction import MailTransaction
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

#: After a failure that does not count against the retry schedule.
_UNCOUNTED = Backoff(first_s=1.0, longest_s=900.0)
#: The same while the circuit breaker is open: mail should not wait much longer than it is.
_PAUSED = Backoff(first_s=1.0, longest_s=60.0)
#: After this machine ran out of disk or memory: mostly it is other mail in hand that takes it.
_SHORTAGE = Backoff(first_s=5.0, longest_s=900.0)
#: After so many attempts even the relay's faults count, where the relay works for others.
_PATIENCE = 5
#: Between two resends of what is in doubt.
_LONGEST_IN_DOUBT_S = 4 * _HOUR_S
#: While a rate is used up.
_LEAST_PAUSE_S = 1.0


def accepted_record(
    claim: Claim, reply: Reply, *, attempted_at: datetime, relay: str, duration_s: float
) -> OutcomeRecord:
    """Return what to record for ``claim`` where the relay has taken the mail.

    Args:
        claim: The recipient's.
        reply: The reply to the final dot.
        attempted_at: When the attempt began.
        relay: The relay's name.
        duration_s: How long the attempt took, in seconds.
    """
    return OutcomeRecord(
        claim=claim,
        state=_ACCEPTED,
        attempted_at=attempted_at,
        reply_code=reply.code,
        enhanced_status=reply.enhanced,
        reply=reply.one_line,
        relay=relay,
        phase=_DOT,
        duration_s=duration_s,
    )


def attempt_record(
    claim: Claim,
    outcome: Outcome,
    *,
    attempted_at: datetime,
    relay: str,
    duration_s: float,
    transcript: str | None = None,
) -> OutcomeRecord:
    """Return what an attempt came to for ``claim``, for `OutcomePolicy.apply` to decide on.

    Args:
        claim: The recipient's.
        outcome: What was said to it.
        attempted_at: When the attempt began.
        relay: The relay's name.
        duration_s: How long the attempt took, in seconds.
        transcript: What was said on the connection; kept where the relay did not accept.
    """
    reply = outcome.reply
    return OutcomeRecord(
        claim=claim,
        state=outcome.state,
        attempted_at=attempted_at,
        fault=outcome.fault,
        reply_code=reply.code or None if reply else None,
        enhanced_status=reply.enhanced if reply else None,
        reply=str(reply) or None if reply else None,
        relay=relay,
        phase=outcome.phase,
        duration_s=duration_s,
        transcript=None if outcome.state is _ACCEPTED else transcript,
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
    """Decides what becomes of a recipient after an attempt that did not succeed.

    Attributes:
        in_doubt_retry_s: The pause before the first resend of what is in doubt, in seconds; each
            further one is twice as long, up to 4 hours.
        random: Returns numbers from [0, 1), and spreads retries.
        max_resends: After so many resends what is in doubt is held for a person.
    """

    in_doubt_retry_s: float
    random: Callable[[], float]
    max_resends: int = 5

    def apply(
        self,
        record: OutcomeRecord,
        message: StoredMessage,
        outcome: Outcome,
        *,
        is_paused: bool,
        route_retry_after_s: float,
    ) -> None:
        """Set the state of ``record``, when its recipient is due again, and what is said of it.

        Args:
            record: What `attempt_record` has made of ``outcome``.
            message: The recipient's.
            outcome: What the attempt came to.
            is_paused: Whether the relay's circuit breaker is open now.
            route_retry_after_s: In how many seconds the route may be tried again; 0 where another
                relay of it may take the mail now.
        """
        claim = record.claim
        if outcome.state is _DEFERRED:
            is_hopeless = not is_paused and claim.attempt_count >= _PATIENCE
            if outcome.counts_as_try or is_hopeless:
                self._retry_on_schedule(record, message, outcome)
            else:
                # Neither the recipient's fault nor the message's, as far as anybody can tell.
                pause_s = _pause_s(claim, is_paused, route_retry_after_s)
                longest_s = max(route_retry_after_s, outcome.retry_after_s or 0.0, pause_s)
                record.due_in_s = longest_s * (1.0 + 0.2 * self.random())
        elif outcome.state is _IN_DOUBT and message.on_doubt is not OnDoubt.HOLD:
            self._resend(record)

    def _retry_on_schedule(
        self, record: OutcomeRecord, message: StoredMessage, outcome: Outcome
    ) -> None:
        """Try again when the message's schedule says so; reject where that is used up.

        A fault of the relay's, our login's or ours comes here where it stays with one recipient: a
        relay that hangs up whenever it hears one address has a fault that never passes.
        """
        claim = record.claim
        record.counts_as_try = True
        delay_s = _schedule(message).delay_s(claim.try_count, self.random)
        if delay_s is None:
            tries = claim.try_count if outcome.counts_as_try else claim.attempt_count
            record.state = _REJECTED
            record.reply = f"gave up after {tries + 1} tries; last: {record.reply}"
        else:
            least_s = 0.0 if outcome.counts_as_try else _UNCOUNTED.pause_s(claim.attempt_count + 1)
            record.due_in_s = max(delay_s, outcome.retry_after_s or 0.0, least_s)

    def _resend(self, record: OutcomeRecord) -> None:
        """Send again what is in doubt, ever later; after the last time a person has to decide."""
        times = record.claim.in_doubt_count + 1
        if times > self.max_resends:
            record.reply = (
                f"in doubt {times} times, and not sent again by itself: look into the relay's log "
                f"and decide with `postroom resolve`; last: {record.reply}"
            )
        else:
            longest_s = max(_LONGEST_IN_DOUBT_S, self.in_doubt_retry_s)
            backoff = Backoff(first_s=self.in_doubt_retry_s, longest_s=longest_s)
            record.due_in_s = backoff.pause_s(times)


def _pause_s(claim: Claim, is_paused: bool, route_retry_after_s: float) -> float:
    if is_paused and route_retry_after_s <= 0:
        return _UNCOUNTED.first_s  # another relay of the route takes it
    return (_PAUSED if is_paused else _UNCOUNTED).pause_s(claim.attempt_count + 1)


def _schedule(message: StoredMessage) -> RetrySchedule:
    if message.retry_delays_s is None:
        return DEFAULT_SCHEDULE
    return RetrySchedule(delays_s=message.retry_delays_s)


class OutcomeReporter:
    """Reports what came of the transactions of one sender.

    Args:
        pool: The sender's.
        buffer: Where outcomes go.
        policy: What decides on those that did not succeed.
        clock: What tells the time.
    """

    def __init__(
        self, pool: SenderPool, buffer: OutcomeBuffer, policy: OutcomePolicy, clock: Clock
    ) -> None:
        self._pool = pool
        self._relay = pool.relay.name
        self._breaker = pool.breaker
        self._buffer = buffer
        self._policy = policy
        self._clock = clock
        self._shortage = SharedBackoff(_SHORTAGE, clock=clock.monotonic)

    def accepted(self, transaction: MailTransaction, replies: Sequence[Reply]) -> None:
        """Report that the relay has taken the mail for everyone, as it nearly always does."""
        self._breaker.record(None)
        self._shortage.succeeded()
        duration_s = self._clock.monotonic() - transaction.began
        records = [
            accepted_record(
                claim,
                reply,
                attempted_at=transaction.attempted_at,
                relay=self._relay,
                duration_s=duration_s,
            )
            for claim, reply in zip(transaction.claims, replies, strict=True)
        ]
        self._buffer.add(records, transaction.admitted)

    def report(self, transaction: MailTransaction, transcript: Callable[[], str]) -> None:
        """Report what is decided; put back what may be sent again at once.

        Args:
            transaction: One that was begun.
            transcript: Returns what was said; called only where a recipient was not accepted.
        """
        decided = _bounded(transaction)
        failed = [outcome for _, outcome in decided if outcome.state is not _ACCEPTED]
        self._tell_breaker(failed, some_accepted=len(failed) < len(decided))
        said = transcript() if failed else None
        self._buffer.add(
            [
                self._record(transaction, claim, outcome, said)
                for claim, outcome in decided
                if not outcome.retry_immediately
            ],
            transaction.admitted,
        )
        if again := [claim for claim, outcome in decided if outcome.retry_immediately]:
            self._pool.queue.put_front(transaction.subset(again))

    def interrupted(
        self, transaction: MailTransaction, error: Exception, transcript: Callable[[], str]
    ) -> None:
        """Report an unexpected error during an attempt: in doubt once past the commit gate."""
        state = _IN_DOUBT if transaction.admitted else _DEFERRED
        transaction.set_all(_unexplained(error, state, _DOT if transaction.admitted else None))
        self.report(transaction, transcript)

    def failed_unexpectedly(self, transaction: MailTransaction, error: Exception) -> None:
        """Report an unexpected error before the attempt: try it later."""
        outcome = _unexplained(error, _DEFERRED, None)
        transaction.attempted_at = self._clock.utc_now()
        transaction.began = self._clock.monotonic()
        self._buffer.add(
            [self._record(transaction, claim, outcome, "") for claim in transaction.claims]
        )

    def defer_for_shortage(self, transaction: MailTransaction, error: Exception) -> None:
        """Report that this machine or its database failed to compose the mail: try it later.

        No relay heard of it, and it says nothing about the mail: it is no attempt, and does not
        count. Where it fails again after the pause, the next pause is twice as long.
        """
        reply = f"waiting: this worker could not prepare the mail: {reason_of(error)}"
        pause_s = self._shortage.failed()
        self._report_all(transaction, _DEFERRED, reply, fault=Fault.OURSELVES, due_in_s=pause_s)

    def defer_for_rate(self, transaction: MailTransaction, pause_s: float) -> None:
        """Report that a rate is used up: try it when that allows one more; it is no attempt."""
        reply = f"waiting: the rate of {self._relay} is used up"
        self._report_all(transaction, _DEFERRED, reply, due_in_s=max(pause_s, _LEAST_PAUSE_S))

    def reject_unsendable(self, transaction: MailTransaction, error: MessageError) -> None:
        """Report that the message cannot be composed for these recipients, now or later."""
        self._report_all(transaction, _REJECTED, f"not sent: {error}", fault=Fault.MESSAGE)

    def _report_all(
        self,
        transaction: MailTransaction,
        state: RecipientState,
        reply: str,
        *,
        fault: Fault | None = None,
        due_in_s: float | None = None,
    ) -> None:
        """Report the same for all of a transaction of which no relay has heard."""
        now = self._clock.utc_now()
        self._buffer.add(
            [
                without_attempt(claim, state, reply, at=now, fault=fault, due_in_s=due_in_s)
                for claim in transaction.claims
            ]
        )

    def _record(
        self, transaction: MailTransaction, claim: Claim, outcome: Outcome, said: str | None
    ) -> OutcomeRecord:
        record = attempt_record(
            claim,
            outcome,
            attempted_at=transaction.attempted_at,
            relay=self._relay,
            duration_s=self._clock.monotonic() - transaction.began,
            transcript=said,
        )
        self._policy.apply(
            record,
            transaction.composer.message,
            outcome,
            is_paused=self._breaker.retry_after_s() > 0,
            route_retry_after_s=transaction.route_retry_after_s(),
        )
        return record

    def _tell_breaker(self, failed: Sequence[Outcome], *, some_accepted: bool) -> None:
        """One mail that went out says that the relay works, whatever became of the others."""
        if some_accepted:
            self._breaker.record(None)
        elif failed and failed[0].fault is not None:
            self._breaker.record(failed[0].fault)


def _bounded(transaction: MailTransaction) -> list[tuple[Claim, Outcome]]:
    """Return what is decided; "again, at once" too often in a row is the relay's fault."""
    decided = transaction.decided()
    if not decided or not all(outcome.retry_immediately for _, outcome in decided):
        return decided  # with an outcome for one of them there are fewer the next time
    if transaction.may_return():
        return decided
    return [
        (claim, replace(outcome, fault=Fault.RELAY, retry_after_s=None))
        for claim, outcome in decided
    ]


def _unexplained(error: Exception, state: RecipientState, phase: Phase | None) -> Outcome:
    text = f"unexpected error: {named(error)}; see the worker's log"
    return Outcome(
        state=state, fault=Fault.OURSELVES, reply=Reply(code=0, lines=(text,)), phase=phase
    )
