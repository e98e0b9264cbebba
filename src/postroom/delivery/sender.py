"""A sender: a strand of its own, one connection, one transaction after the other.

It never touches the database: outcomes go over the desk, and the gate stands before every final
dot. Nothing is sent twice here but what the relay provably has not taken. Every job it takes ends
in one of four ways, whatever raises: reported, released, put back, or at the very last abandoned.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from sqlalchemy.exc import SQLAlchemyError

from postroom.clock import monotonic
from postroom.delivery.composer import SLOW_S, Payload
from postroom.delivery.mail_transaction import Job, Transaction
from postroom.delivery.outcome_buffer import CommitGate, OutcomeBuffer
from postroom.delivery.outcomes import OutcomePolicy, OutcomeReporter
from postroom.delivery.scheduler import run_in_thread
from postroom.delivery.sender_pool import LONGEST_WAIT_S, SenderPool
from postroom.errors import (
    ConnectError,
    Disconnected,
    LeaseLost,
    MessageError,
    RelayError,
    TemplateTooSlow,
)
from postroom.log import Log
from postroom.message.envelope import Envelope
from postroom.message.templates import DEFAULT_BUDGET, RenderBudget
from postroom.relays.options import Pipelining
from postroom.relays.pool import ConnectionPool
from postroom.smtp.envelope_exchange import is_too_many_recipients, retry_immediately
from postroom.smtp.reply import Outcome, Reply, classify, classify_error
from postroom.smtp.transport import Transport
from postroom.states import Fault, OnDoubt, Phase
from postroom.storage.data_errors import reason_of

log = Log("postroom.delivery")

# Bound once: looking a member up on its class takes a function call on Python 3.11.
_DOT = Phase.DOT
_HOLD = OnDoubt.HOLD
_BEFORE_LOGIN = frozenset({Phase.GREETING, Phase.EHLO})


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderContext:
    """What all senders of a worker share; ``keep_connections`` leaves connections open."""

    buffer: OutcomeBuffer
    gate: CommitGate
    policy: OutcomePolicy
    connections: ConnectionPool
    keep_connections: bool
    render_budget: RenderBudget = DEFAULT_BUDGET


class Sender:
    """Takes jobs from its outlet's queue until that is closed."""

    def __init__(self, outlet: SenderPool, office: SenderContext) -> None:
        self._outlet = outlet
        self._relay = outlet.relay
        self._breaker = outlet.breaker
        self._throttle = outlet.throttle
        self._queue = outlet.queue
        self._context = office
        budget = office.render_budget
        self._loop_budget = replace(budget, seconds=min(budget.seconds, SLOW_S))
        self._reporter = OutcomeReporter(outlet, office.buffer, office.policy)
        self._limits = office.connections.limits_of(outlet.relay)
        self._session: Transport | None = None
        #: A job that was taken and is neither settled nor a transaction yet.
        self._taken: Job | None = None
        #: The relay has no connection for this sender.
        self._is_surplus = False
        #: The transaction at hand, and the one whose opening is already on its way.
        self._current: Transaction | None = None
        self._next: Transaction | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        """Speak one job after the other; drop the connection when there is none for a while."""
        try:
            while not (self._queue.is_closed or self._is_surplus):
                self._take_one()
            self._release_connection()
        finally:
            self._outlet.ended(self)
            self._ended.set()

    @property
    def has_ended(self) -> bool:
        """Return whether it takes no more jobs, for whatever reason."""
        return self._ended.is_set()

    @property
    def is_connected(self) -> bool:
        """Return whether it holds a connection."""
        return self._session is not None

    def join(self, timeout_s: float) -> None:
        """Wait until it has ended, ``timeout_s`` at the most; from another thread."""
        self._ended.wait(timeout_s)

    def abort(self) -> None:
        """Cut the connection under a transaction that takes too long; from another thread."""
        session = self._session
        if session is not None:
            session.abort()

    def _take_one(self) -> None:
        self._taken = self._queue.get(self._relay.idle_s)
        try:
            if self._taken is None:
                self._release_connection()
            else:
                self._deliver(self._taken)
        except Exception as error:
            log.exception("a sender met an error of our own", extra={"relay": self._relay.name})
            self._abandon_after_bug(error)

    def _deliver(self, job: Job) -> None:
        """Speak ``job``, and whatever follows it on the same connection without a pause."""
        self._taken = job
        transaction = self._prepared(job) if self._is_admitted(job) else None
        session = None if transaction is None else self._session_for(transaction)
        if transaction is not None and session is not None and len(job.claims) > 1:
            transaction = self._cut_to_size(transaction, session)
        self._taken = None
        if transaction is None or session is None:
            return
        self._current = transaction
        is_reused = session.transactions > 0
        try:
            session.send_envelope(transaction.envelope)
            # Or the file of the first mail stays while others follow it on the connection.
            del job, transaction
            while self._current is not None:
                self._transmit(session, self._current)
                self._current, self._next = self._next, None
                is_reused = True
        except RelayError as error:
            self._connection_failed(error, is_reused=is_reused)
        except LeaseLost:
            self._lease_lost()
        if not session.is_usable:
            self._release_connection()

    def _is_admitted(self, job: Job) -> bool:
        """Wait for the relay's rate; put the job off where it would take long, and return False."""
        while not self._throttle.try_acquire(job.claims):
            domain_s = self._throttle.domain_retry_after_s(job.claims)
            if domain_s > 0:
                # Not waited for: others have mail for other domains.
                self._reporter.defer(job, domain_s)
                return False
            relay_s = self._throttle.relay_retry_after_s()
            if relay_s > LONGEST_WAIT_S:
                self._reporter.defer(job, relay_s)
                return False
            self._queue.wait_until_closed(relay_s)
            if self._queue.is_closed:
                self._context.buffer.release(job.claims)
                return False
        return True

    def _prepared(self, job: Job) -> Transaction | None:
        """Return ``job`` ready to be spoken; None when its fate needs no relay."""
        if not job.batch.holds(job.claims, monotonic()):
            self._context.buffer.release(job.claims)
            return None
        try:
            envelope, letter = self._addressed(job)
        except MessageError as error:
            self._reporter.reject_unsendable(job, error)
            return None
        except (OSError, MemoryError, SQLAlchemyError) as error:
            log.warning(
                "could not prepare a mail, which is tried again later: %s",
                reason_of(error),
                extra={"message_id": job.mail.message.id},
            )
            self._reporter.fell_short(job, error)
            return None
        except Exception as error:
            log.exception("a message cannot be composed", extra={"message_id": job.mail.message.id})
            self._reporter.unexplained(job, error)
            return None
        return Transaction(
            job=job, envelope=envelope, payload=letter, outcomes=[None] * len(job.claims)
        )

    def _addressed(self, job: Job) -> tuple[Envelope, Payload]:
        """Compose the mail here, or aside where the other connections would have to wait for it.

        A template that proves slow here is given up after 20 ms, and rendered aside from then on.
        """
        mail, claims = job.mail, job.claims
        if not mail.is_slow_to_compose:
            try:
                return mail.compose_for(claims, self._loop_budget)
            except TemplateTooSlow:
                pass
        return run_in_thread(lambda: mail.compose_for(claims, self._context.render_budget))

    def _cut_to_size(self, transaction: Transaction, session: Transport) -> Transaction | None:
        """Return the part of ``transaction`` that the relay takes at once; put back the rest."""
        most = self._limits.max_recipients(session.max_recipients)
        job = transaction.job
        if most is None or len(job.claims) <= most:
            return transaction
        part = self._taken = job.subset(job.claims[:most])
        self._queue.put_front(job.subset(job.claims[most:]))
        return self._prepared(part)

    def _session_for(self, transaction: Transaction) -> Transport | None:
        """Return a usable session; None where the transaction is settled without one."""
        session = self._session
        if session is not None and (self._breaker.is_open or not session.is_usable):
            # While the relay rests as well: it is probed on a new connection, by one of us.
            self._release_connection()
        if self._session is None:
            self._session = self._connected(transaction)
        if self._session is None or self._is_refused_locally(self._session, transaction):
            return None
        return self._session

    def _connected(self, transaction: Transaction) -> Transport | None:
        if not self._outlet.may_connect:
            self._yield(transaction.job)
            return None
        if not self._breaker.allow_request():
            # Due again at once: another relay of its route may take it meanwhile.
            self._context.buffer.release(transaction.job.claims)
            return None
        try:
            with self._outlet.connecting():
                return run_in_thread(lambda: self._context.connections.acquire(self._relay))
        except RelayError as error:
            if self._is_crowded_out(error):
                self._yield(transaction.job)
                return None
            said = error.transcript
            transaction.set_all(classify_error(error))
            self._reporter.report(transaction, lambda: said)
            return None

    def _is_crowded_out(self, error: RelayError) -> bool:
        """Return whether the relay only has no room for one more connection of ours."""
        if self._breaker.is_open or not _turns_away(error) or not self._outlet.has_others():
            return False
        log.info(
            "the relay %s takes %d connections at the moment and refused one more: %s",
            self._relay.name,
            self._outlet.limit.current(),
            error.reply or error,
        )
        return True

    def _yield(self, job: Job) -> None:
        """Leave ``job`` to those senders that have a connection, and end."""
        self._queue.put_front(job)
        self._is_surplus = True

    def _is_refused_locally(self, session: Transport, transaction: Transaction) -> bool:
        """Settle what this relay has announced it could not take; return whether it was so."""
        outcome = session.local_refusal(transaction.envelope)
        if outcome is None:
            return False
        transaction.set_all(outcome)
        self._reporter.report(transaction, self._transcript)
        return True

    def _transmit(self, session: Transport, current: Transaction) -> None:
        """Speak one transaction whose opening is on its way; open the following one with its dot.

        Raises:
            RelayError: the connection is of no use any more.
            LeaseLost: the claims ran out before the final dot.
        """
        opening = session.read_envelope_replies()
        if not opening.all_accepted:
            current.outcomes = list(opening.outcomes())
            self._share_limits(session)
        if opening.is_ready_for_content:
            session.send_content(current.payload.chunks())
            # Before the gate: behind it nothing may keep the dot waiting.
            self._next = self._next_on(session)
            self._admit(current)
            following = self._next.envelope if self._next else None
            replies = session.end_data(following)
            if opening.all_accepted and all(reply.is_positive for reply in replies):
                self._reporter.accepted(current, replies)
                return
            current.set_outcomes(self._verdicts(replies))
        self._reporter.report(current, self._transcript)

    def _verdicts(self, replies: Sequence[Reply]) -> list[Outcome]:
        """Return what the replies to the final dot mean, for each recipient that stood."""
        first = replies[0]
        if len(replies) > 1 and not self._relay.is_lmtp and is_too_many_recipients(first):
            self._limits.record(refuses_early=False, max_recipients=len(replies) // 2)
            return [retry_immediately(_DOT, first, Fault.OURSELVES)] * len(replies)
        return [classify(_DOT, reply) for reply in replies]

    def _share_limits(self, session: Transport) -> None:
        """Share with the other senders what a refusal has taught this session."""
        self._limits.record(
            refuses_early=session.refuses_early, max_recipients=session.max_recipients
        )

    def _admit(self, current: Transaction) -> None:
        """Wait until the outcome can be recorded; where doubt is to be held, commit the intent."""
        claims = current.open_claims()
        job = current.job
        if job.mail.message.on_doubt is _HOLD:
            intent = self._context.buffer.request_intent(claims)
            remaining_s = max(job.batch.send_deadline - monotonic(), 0.0)
            if not intent.answered.wait(remaining_s) or len(intent.held) < len(claims):
                raise LeaseLost("expected the intent to be committed in time, got: a lost claim")
        self._context.gate.acquire(job.batch, claims)
        current.admitted = len(claims)

    def _next_on(self, session: Transport) -> Transaction | None:
        """Return the transaction to open together with this final dot, if there is one."""
        if self._breaker.is_open:
            return None
        if self._limits.refuses_early and session.pipelining is Pipelining.FULL:
            # Another connection found that out: here the next mail waits for the reply.
            return None
        while session.accepts_more and (job := self._queue.get_nowait()) is not None:
            self._taken = job
            if not self._throttle.try_acquire(job.claims):
                self._queue.put_front(job)
                self._taken = None
                return None
            following = self._prepared(job)
            if following is not None and len(job.claims) > 1:
                following = self._cut_to_size(following, session)
            is_next = following is not None and not self._is_refused_locally(session, following)
            self._taken = None
            if is_next:
                return following
        return None

    def _connection_failed(self, error: RelayError, *, is_reused: bool) -> None:
        """The connection failed: the transaction whose dot was written is in doubt, no other."""
        current, following = self._current, self._next
        self._current = self._next = None
        if following is not None:
            self._queue.put_front(following.job)
        if current is None:
            return
        is_between_mails = isinstance(error, Disconnected) and error.phase is Phase.MAIL
        if is_reused and is_between_mails and current.job.may_return():
            # The relay dropped a connection between two mails, as relays do.
            self._queue.put_front(current.job)
            return
        outcome = classify_error(error)
        current.set_outcomes([classify(_DOT, reply) for reply in error.replies])
        current.set_all(outcome)
        self._reporter.report(current, self._transcript)

    def _lease_lost(self) -> None:
        """The claims are gone, or nearly: say nothing, and let whoever holds them go on."""
        assert self._current is not None
        self._context.buffer.release(self._current.job.claims)
        if self._next is not None:
            self._queue.put_front(self._next.job)
        self._current = self._next = None
        if self._session is not None:
            self._session.close()

    def _abandon_after_bug(self, error: Exception) -> None:
        """After an error that nobody foresaw: every job in hand gets an outcome that names it."""
        taken, current, following = self._taken, self._current, self._next
        self._taken = self._current = self._next = None
        if taken is not None:
            self._settle(taken, lambda job: self._reporter.unexplained(job, error))
        if current is not None:
            self._settle(
                current.job,
                lambda _: self._reporter.broken_off(current, error, self._transcript),
            )
        if following is not None:
            # It was opened at the most, and the error was met while the one before it was spoken.
            self._settle(following.job, lambda job: self._put_back(job, error))
        session, self._session = self._session, None
        if session is not None:
            with suppress(Exception):
                session.close()

    def _put_back(self, job: Job, error: Exception) -> None:
        if job.may_return():
            self._queue.put_front(job)
        else:
            self._reporter.unexplained(job, error)

    def _settle(self, job: Job, settle: Callable[[Job], None]) -> None:
        """Give a job its outcome; where not even that can be done, let its claims run out."""
        try:
            settle(job)
        except Exception:
            log.exception("no outcome could be given", extra={"message_id": job.mail.message.id})
            self._context.buffer.abandon(job.claims)

    def _transcript(self) -> str:
        return "" if self._session is None else self._session.transcript

    def _release_connection(self) -> None:
        if self._session is not None and self._context.keep_connections:
            self._context.connections.release(self._relay, self._session)
        elif self._session is not None:
            self._session.quit()
        self._session = None


def _turns_away(error: RelayError) -> bool:
    """Return whether a relay that is there has refused a connection before any mail was spoken of.

    Silence is no such thing: then those that stand may be as dead.
    """
    if error.phase in _BEFORE_LOGIN:
        return isinstance(error, ConnectError | Disconnected)
    return error.phase is Phase.AUTH and error.reply is not None and error.reply.code < 500
