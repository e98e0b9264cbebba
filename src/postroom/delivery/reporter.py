"""What a sender tells of its transactions: results for the desk, faults for the breaker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from postroom.backoff import Backoff, SharedBackoff
from postroom.delivery.clock import monotonic, utc_now
from postroom.delivery.desk import Desk
from postroom.delivery.job import Job
from postroom.delivery.outlet import Outlet
from postroom.delivery.transaction import Transaction
from postroom.delivery.verdict import Spoken, Verdicts, accepted, without_attempt
from postroom.storage.data_errors import reason_of
from postroom.storage.ledger import Claim
from postroom.values.errors import MessageError, named
from postroom.values.reply import Outcome, Reply
from postroom.values.states import Fault, Phase, RecipientState

_LEAST_PAUSE_S = 1.0
#: After this machine ran out of disk or memory: mostly it is other mail in hand that takes it.
_SHORTAGE = Backoff(first_s=5.0, longest_s=900.0)
_ACCEPTED = RecipientState.ACCEPTED


class Reporter:
    """Belongs to one sender of ``outlet``."""

    def __init__(self, outlet: Outlet, desk: Desk, verdicts: Verdicts) -> None:
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
        results = [accepted(*both, spoken) for both in zip(claims, replies, strict=True)]
        self._desk.report(results, transaction.passed)

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
            spoken.is_resting = self._outlet.breaker.pause_s() > 0
            spoken.pause_s = transaction.job.pause_s()
        message = transaction.job.mail.message
        results = [
            self._verdicts.result(claim, message, outcome, spoken)
            for claim, outcome in decided
            if not outcome.is_at_once
        ]
        self._desk.report(results, transaction.passed)
        if failed and (again := [claim for claim, outcome in decided if outcome.is_at_once]):
            self._outlet.queue.put_back(transaction.job.only(again))

    def broken_off(
        self, transaction: Transaction, error: Exception, transcript: Callable[[], str]
    ) -> None:
        """Hand in what an error that nobody foresaw leaves behind: in doubt once past the gate."""
        state = RecipientState.IN_DOUBT if transaction.passed else RecipientState.DEFERRED
        transaction.settle_all(
            _unexplained(error, state, Phase.DOT if transaction.passed else None)
        )
        self.report(transaction, transcript)

    def unexplained(self, job: Job, error: Exception) -> None:
        """An error that nobody foresaw, before anything was said of this job: try it later."""
        outcome = _unexplained(error, RecipientState.DEFERRED, None)
        spoken = Spoken(
            relay=self._outlet.relay.name,
            at=utc_now(),
            duration_s=0.0,
            is_resting=self._outlet.breaker.pause_s() > 0,
            pause_s=job.pause_s(),
        )
        message = job.mail.message
        self._desk.report(
            [self._verdicts.result(claim, message, outcome, spoken) for claim in job.claims]
        )

    def fell_short(self, job: Job, error: Exception) -> None:
        """This machine or its database failed while the mail was composed: try it later.

        No relay heard of it, and it says nothing about the mail: it is no attempt, and does not
        count. Where it fails again after the pause, the next pause is twice as long.
        """
        reply = f"waiting: this worker could not prepare the mail: {reason_of(error)}"
        pause_s = self._shortage.failed()
        self._settle(job, RecipientState.DEFERRED, reply, fault=Fault.OURSELVES, due_in_s=pause_s)

    def put_off(self, job: Job, pause_s: float) -> None:
        """A rate is used up: put the job off until it allows one more, without an attempt."""
        reply = f"waiting: the rate of {self._outlet.relay.name} is used up"
        self._settle(job, RecipientState.DEFERRED, reply, due_in_s=max(pause_s, _LEAST_PAUSE_S))

    def unsendable(self, job: Job, error: MessageError) -> None:
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
        self._desk.report(
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
        if not decided or not all(outcome.is_at_once for _, outcome in decided):
            return decided  # with an outcome for one of them there are fewer the next time
        if job.may_return():
            return decided
        return [
            (claim, replace(outcome, fault=Fault.RELAY, retry_after_s=None))
            for claim, outcome in decided
        ]

    def _spoken(self, transaction: Transaction) -> Spoken:
        return Spoken(
            relay=self._outlet.relay.name,
            at=transaction.at,
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
