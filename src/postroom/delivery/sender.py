"""A sender: one thread, one connection, one transaction after the other.

It never touches the database: outcomes go over the desk, and the gate stands before every final
dot. Nothing is sent twice here but what the relay provably has not taken.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from postroom.delivery.clock import monotonic, utc_now
from postroom.delivery.desk import Desk
from postroom.delivery.gate import Gate
from postroom.delivery.job import Job
from postroom.delivery.outlet import Outlet
from postroom.delivery.transaction import Transaction
from postroom.delivery.verdict import Spoken, Verdicts
from postroom.smtp.session import Session
from postroom.storage.ledger import Claim, Result
from postroom.values.errors import Disconnected, LeaseLost, MessageError, RelayError
from postroom.values.relay import Relay
from postroom.values.reply import Outcome, classify, classify_error
from postroom.values.states import Fault, OnDoubt, Phase, RecipientState

log = logging.getLogger("postroom.delivery")


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What all senders of a worker share; ``connect`` opens a session with a relay."""

    desk: Desk
    gate: Gate
    verdicts: Verdicts
    connect: Callable[[Relay], Session]


class Sender(threading.Thread):
    """Takes jobs from its outlet's queue until that is closed."""

    def __init__(self, outlet: Outlet, office: Office) -> None:
        super().__init__(name=f"postroom-sender-{outlet.relay.name}", daemon=True)
        self._relay = outlet.relay
        self._breaker = outlet.breaker
        self._queue = outlet.queue
        self._office = office
        self._session: Session | None = None
        #: The transaction at hand, and the one whose opening is already on its way.
        self._current: Transaction | None = None
        self._following: Transaction | None = None

    def run(self) -> None:
        """Speak one job after the other; drop the connection when there is none for a while."""
        while not self._queue.is_closed:
            job = self._queue.take(self._relay.idle_s)
            if job is None:
                self._hang_up()
                continue
            try:
                self._deliver(job)
            except Exception:
                log.exception("a sender met an error of our own", extra={"relay": self._relay.name})
                self._give_up_unexplained()
        self._hang_up()

    def _deliver(self, job: Job) -> None:
        """Speak ``job``, and whatever follows it on the same connection without a pause."""
        self._current = self._prepared(job)
        if self._current is None or not self._is_connected():
            return
        session = self._session
        assert session is not None
        is_reused = session.transactions > 0
        try:
            session.start(self._current.envelope)
            while self._current is not None:
                self._speak(session, self._current)
                self._current, self._following = self._following, None
                is_reused = True
        except RelayError as error:
            self._broken(error, is_reused=is_reused)
        except LeaseLost:
            self._too_late()
        if not session.is_usable:
            self._hang_up()

    def _prepared(self, job: Job) -> Transaction | None:
        """Return ``job`` ready to be spoken; None when its fate needs no relay."""
        if not job.batch.is_safe(job.claims, monotonic()):
            self._office.desk.release(job.claims)
            return None
        try:
            envelope, letter = job.mail.address(job.claims)
        except MessageError as error:
            now = utc_now()
            self._office.desk.report(
                [
                    Result(
                        claim=claim,
                        state=RecipientState.REJECTED,
                        at=now,
                        fault=Fault.MESSAGE,
                        reply=f"not sent: {error}",
                    )
                    for claim in job.claims
                ]
            )
            return None
        return Transaction(
            job=job, envelope=envelope, letter=letter, outcomes=[None] * len(job.claims)
        )

    def _is_connected(self) -> bool:
        """Have a usable session; otherwise settle the transaction at hand and return False."""
        if self._session is not None and not self._session.is_usable:
            self._hang_up()
        if self._session is None and not self._connect():
            return False
        return not self._is_objectionable(self._current)

    def _connect(self) -> bool:
        current = self._current
        assert current is not None
        if not self._breaker.permits():
            self._postpone(current.job)
            return False
        try:
            self._session = self._office.connect(self._relay)
        except RelayError as error:
            outcome = classify_error(error)
            current.settle_all(outcome)
            self._report(current, error.transcript)
            return False
        return True

    def _is_objectionable(self, transaction: Transaction | None) -> bool:
        """Settle what this relay has announced it could not take; return whether it was so."""
        assert self._session is not None
        if transaction is None:
            return True
        outcome = self._session.objection(transaction.envelope)
        if outcome is None:
            return False
        transaction.settle_all(outcome)
        self._report(transaction)
        return True

    def _speak(self, session: Session, current: Transaction) -> None:
        """Speak one transaction whose opening is on its way; open the following one with its dot.

        Raises:
            RelayError: the connection is of no use any more.
            LeaseLost: the claims ran out before the final dot.
        """
        opening = session.opening()
        current.outcomes = list(opening.outcomes())
        if opening.is_open:
            session.send_body(current.letter.chunks())
            self._pass_gate(current)
            self._following = self._next_on(session)
            following = self._following.envelope if self._following else None
            replies = session.finish(following)
            current.settle([classify(Phase.DOT, reply) for reply in replies])
        self._report(current)

    def _pass_gate(self, current: Transaction) -> None:
        """Wait until the outcome can be recorded; where doubt is to be held, commit the intent."""
        claims = current.open_claims()
        job = current.job
        if job.mail.message.on_doubt is OnDoubt.HOLD:
            intent = self._office.desk.intend(claims)
            remaining_s = max(job.batch.safe_until - monotonic(), 0.0)
            if not intent.answered.wait(remaining_s) or len(intent.held) < len(claims):
                raise LeaseLost("expected the intent to be committed in time, got: a lost claim")
        self._office.gate.enter(job.batch, claims)
        current.passed = len(claims)

    def _next_on(self, session: Session) -> Transaction | None:
        """Return the transaction to open together with this final dot, if there is one."""
        while session.takes_another and (job := self._queue.take_now()) is not None:
            following = self._prepared(job)
            if following is not None and not self._is_objectionable(following):
                return following
        return None

    def _report(self, transaction: Transaction, transcript: str | None = None) -> None:
        """Hand in what is decided; put the rest back, to be spoken at once."""
        decided = transaction.decided()
        at_once = [claim for claim, outcome in decided if outcome.is_at_once]
        spoken = Spoken(
            relay=self._relay.name,
            at=transaction.at,
            duration_s=monotonic() - transaction.began,
            transcript=self._transcript(decided) if transcript is None else transcript,
            pause_s=self._breaker.pause_s(),
        )
        self._tell_breaker([outcome for _, outcome in decided])
        message = transaction.job.mail.message
        results = [
            self._office.verdicts.result(claim, message, outcome, spoken)
            for claim, outcome in decided
            if not outcome.is_at_once
        ]
        self._office.desk.report(results, transaction.passed)
        if at_once:
            self._queue.put_back(transaction.job.only(at_once))

    def _tell_breaker(self, outcomes: list[Outcome]) -> None:
        """One mail that went out says that the relay works, whatever became of the others."""
        if any(outcome.state is RecipientState.ACCEPTED for outcome in outcomes):
            self._breaker.record(None)
        elif outcomes and outcomes[0].fault is not None:
            self._breaker.record(outcomes[0].fault)

    def _transcript(self, decided: list[tuple[Claim, Outcome]]) -> str:
        """Return the session's transcript where somebody will want to read it."""
        all_well = all(outcome.state is RecipientState.ACCEPTED for _, outcome in decided)
        return "" if all_well or self._session is None else self._session.transcript

    def _postpone(self, job: Job) -> None:
        """The relay rests: put the job off until it may be tried again, without an attempt."""
        now = utc_now()
        pause_s = self._breaker.pause_s()
        self._office.desk.report(
            [
                Result(
                    claim=claim,
                    state=RecipientState.DEFERRED,
                    at=now,
                    due_in_s=max(pause_s, 1.0),
                    fault=Fault.RELAY,
                    reply=f"waiting: {self._breaker.reason}",
                )
                for claim in job.claims
            ]
        )

    def _broken(self, error: RelayError, *, is_reused: bool) -> None:
        """The connection failed: the transaction whose dot was written is in doubt, no other."""
        current, following = self._current, self._following
        self._current = self._following = None
        if following is not None:
            self._queue.put_back(following.job)
        if current is None:
            return
        if is_reused and isinstance(error, Disconnected) and error.phase is Phase.MAIL:
            # The relay dropped a connection between two mails, as relays do.
            self._queue.put_back(current.job)
            return
        outcome = classify_error(error)
        current.settle([classify(Phase.DOT, reply) for reply in error.replies])
        current.settle_all(outcome)
        self._report(current)

    def _too_late(self) -> None:
        """The claims are gone, or nearly: say nothing, and let whoever holds them go on."""
        assert self._current is not None
        self._office.desk.release(self._current.job.claims)
        self._current = None
        if self._session is not None:
            self._session.close()

    def _give_up_unexplained(self) -> None:
        """After an error of our own: let the claims run out, so that it cannot spin."""
        for transaction in (self._current, self._following):
            if transaction is not None and transaction.passed:
                transaction.settle_all(Outcome(state=RecipientState.IN_DOUBT, phase=Phase.DOT))
                self._report(transaction)
            elif transaction is not None:
                self._office.desk.abandon(transaction.job.claims)
        self._current = self._following = None
        if self._session is not None:
            self._session.close()
            self._session = None

    def _hang_up(self) -> None:
        if self._session is not None:
            self._session.quit()
            self._session = None
