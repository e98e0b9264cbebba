"""A sender: a strand of its own, one connection, one transaction after the other.

It never touches the database: outcomes go over the desk, and the gate stands before every final
dot. Nothing is sent twice here but what the relay provably has not taken.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from postroom.delivery.clock import monotonic
from postroom.delivery.desk import Desk
from postroom.delivery.gate import Gate
from postroom.delivery.hub import in_thread
from postroom.delivery.job import Job
from postroom.delivery.lines import Lines
from postroom.delivery.mail import Letter
from postroom.delivery.outlet import LONGEST_WAIT_S, Outlet
from postroom.delivery.reporter import Reporter
from postroom.delivery.transaction import Transaction
from postroom.delivery.verdict import Verdicts
from postroom.smtp.transport import Transport
from postroom.values.envelope import Envelope
from postroom.values.errors import Disconnected, LeaseLost, MessageError, RelayError
from postroom.values.reply import Outcome, classify, classify_error
from postroom.values.states import OnDoubt, Phase, RecipientState

log = logging.getLogger("postroom.delivery")

# Bound once: looking a member up on its class takes a function call on Python 3.11.
_DOT = Phase.DOT
_HOLD = OnDoubt.HOLD


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What all senders of a worker share; who ``lingers`` leaves connections open on ``lines``."""

    desk: Desk
    gate: Gate
    verdicts: Verdicts
    lines: Lines
    lingers: bool


class Sender:
    """Takes jobs from its outlet's queue until that is closed."""

    def __init__(self, outlet: Outlet, office: Office) -> None:
        self._relay = outlet.relay
        self._breaker = outlet.breaker
        self._throttle = outlet.throttle
        self._queue = outlet.queue
        self._office = office
        self._reporter = Reporter(outlet, office.desk, office.verdicts)
        self._session: Transport | None = None
        #: The transaction at hand, and the one whose opening is already on its way.
        self._current: Transaction | None = None
        self._following: Transaction | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        """Speak one job after the other; drop the connection when there is none for a while."""
        try:
            while not self._queue.is_closed:
                self._take_one()
            self._hang_up()
        finally:
            self._ended.set()

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended, ``timeout_s`` at the most; from another thread."""
        self._ended.wait(timeout_s)

    def cut(self) -> None:
        """Cut the connection under a transaction that takes too long; from another thread."""
        session = self._session
        if session is not None:
            session.cut()

    def _take_one(self) -> None:
        job = self._queue.take(self._relay.idle_s)
        if job is None:
            self._hang_up()
            return
        try:
            self._deliver(job)
        except Exception:
            log.exception("a sender met an error of our own", extra={"relay": self._relay.name})
            self._give_up_unexplained()

    def _deliver(self, job: Job) -> None:
        """Speak ``job``, and whatever follows it on the same connection without a pause."""
        transaction = self._prepared(job) if self._is_admitted(job) else None
        session = None if transaction is None else self._session_for(transaction)
        if transaction is None or session is None:
            return
        self._current = transaction
        is_reused = session.transactions > 0
        try:
            session.start(transaction.envelope)
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

    def _is_admitted(self, job: Job) -> bool:
        """Wait for the relay's rate; put the job off where it would take long, and return False."""
        while not self._throttle.take(job.claims):
            domain_s = self._throttle.domain_pause_s(job.claims)
            if domain_s > 0:
                # Not waited for: others have mail for other domains.
                self._reporter.put_off(job, domain_s)
                return False
            relay_s = self._throttle.relay_pause_s()
            if relay_s > LONGEST_WAIT_S:
                self._reporter.put_off(job, relay_s)
                return False
            self._queue.rest(relay_s)
            if self._queue.is_closed:
                self._office.desk.release(job.claims)
                return False
        return True

    def _prepared(self, job: Job) -> Transaction | None:
        """Return ``job`` ready to be spoken; None when its fate needs no relay."""
        if not job.batch.is_safe(job.claims, monotonic()):
            self._office.desk.release(job.claims)
            return None
        try:
            envelope, letter = self._addressed(job)
        except MessageError as error:
            self._reporter.unsendable(job, error)
            return None
        except Exception:
            # Not understood: let the claims run out, so that it cannot spin.
            log.exception("a message cannot be composed", extra={"message_id": job.mail.message.id})
            self._office.desk.abandon(job.claims)
            return None
        return Transaction(
            job=job, envelope=envelope, letter=letter, outcomes=[None] * len(job.claims)
        )

    @staticmethod
    def _addressed(job: Job) -> tuple[Envelope, Letter]:
        # Attachments are read from the database: others should not have to wait for that.
        if job.mail.has_to_read:
            return in_thread(lambda: job.mail.address(job.claims))
        return job.mail.address(job.claims)

    def _session_for(self, transaction: Transaction) -> Transport | None:
        """Return a usable session; None where the transaction is settled without one."""
        if self._session is not None and not self._session.is_usable:
            self._hang_up()
        if self._session is None:
            self._session = self._connected(transaction)
        if self._session is None or self._is_objectionable(self._session, transaction):
            return None
        return self._session

    def _connected(self, transaction: Transaction) -> Transport | None:
        if not self._breaker.permits():
            # Due again at once: another relay of its route may take it meanwhile.
            self._office.desk.release(transaction.job.claims)
            return None
        try:
            return in_thread(lambda: self._office.lines.connect(self._relay))
        except RelayError as error:
            said = error.transcript
            transaction.settle_all(classify_error(error))
            self._reporter.report(transaction, lambda: said)
            return None

    def _is_objectionable(self, session: Transport, transaction: Transaction) -> bool:
        """Settle what this relay has announced it could not take; return whether it was so."""
        outcome = session.objection(transaction.envelope)
        if outcome is None:
            return False
        transaction.settle_all(outcome)
        self._reporter.report(transaction, self._transcript)
        return True

    def _speak(self, session: Transport, current: Transaction) -> None:
        """Speak one transaction whose opening is on its way; open the following one with its dot.

        Raises:
            RelayError: the connection is of no use any more.
            LeaseLost: the claims ran out before the final dot.
        """
        opening = session.opening()
        if not opening.is_complete:
            current.outcomes = list(opening.outcomes())
        if opening.is_open:
            session.send_body(current.letter.chunks())
            # Before the gate: behind it nothing may keep the dot waiting.
            self._following = self._next_on(session)
            self._pass_gate(current)
            following = self._following.envelope if self._following else None
            replies = session.finish(following)
            if opening.is_complete and all(reply.is_positive for reply in replies):
                self._reporter.accepted(current, replies)
                return
            current.settle([classify(_DOT, reply) for reply in replies])
        self._reporter.report(current, self._transcript)

    def _pass_gate(self, current: Transaction) -> None:
        """Wait until the outcome can be recorded; where doubt is to be held, commit the intent."""
        claims = current.open_claims()
        job = current.job
        if job.mail.message.on_doubt is _HOLD:
            intent = self._office.desk.intend(claims)
            remaining_s = max(job.batch.safe_until - monotonic(), 0.0)
            if not intent.answered.wait(remaining_s) or len(intent.held) < len(claims):
                raise LeaseLost("expected the intent to be committed in time, got: a lost claim")
        self._office.gate.enter(job.batch, claims)
        current.passed = len(claims)

    def _next_on(self, session: Transport) -> Transaction | None:
        """Return the transaction to open together with this final dot, if there is one."""
        while session.takes_another and (job := self._queue.take_now()) is not None:
            if not self._throttle.take(job.claims):
                self._queue.put_back(job)
                return None
            following = self._prepared(job)
            if following is not None and not self._is_objectionable(session, following):
                return following
        return None

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
        current.settle([classify(_DOT, reply) for reply in error.replies])
        current.settle_all(outcome)
        self._reporter.report(current, self._transcript)

    def _too_late(self) -> None:
        """The claims are gone, or nearly: say nothing, and let whoever holds them go on."""
        assert self._current is not None
        self._office.desk.release(self._current.job.claims)
        if self._following is not None:
            self._queue.put_back(self._following.job)
        self._current = self._following = None
        if self._session is not None:
            self._session.close()

    def _give_up_unexplained(self) -> None:
        """After an error of our own: let the claims run out, so that it cannot spin."""
        for transaction in (self._current, self._following):
            if transaction is not None and transaction.passed:
                transaction.settle_all(Outcome(state=RecipientState.IN_DOUBT, phase=Phase.DOT))
                self._reporter.report(transaction, self._transcript)
            elif transaction is not None:
                self._office.desk.abandon(transaction.job.claims)
        self._current = self._following = None
        if self._session is not None:
            self._session.close()
            self._session = None

    def _transcript(self) -> str:
        return "" if self._session is None else self._session.transcript

    def _hang_up(self) -> None:
        if self._session is not None and self._office.lingers:
            self._office.lines.keep(self._relay, self._session)
        elif self._session is not None:
            self._session.quit()
        self._session = None
