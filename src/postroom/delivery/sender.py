"""A sender: one task, one connection, one mail transaction after the other.

It never touches the database: outcomes go into the outcome buffer, and the commit gate is asked
before every final dot. Nothing is sent twice here but what the relay provably has not taken. Every
transaction it takes ends in one of four ways, whatever raises: reported, released, put back, or at
the very last abandoned.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from sqlalchemy.exc import SQLAlchemyError

from postroom.clock import SYSTEM_CLOCK, Clock
from postroom.delivery.composer import SLOW_S, Payload
from postroom.delivery.mail_transaction import MailTransaction
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
    """What all senders of a worker share.

    Attributes:
        buffer: Where outcomes go.
        gate: What is asked before every final dot.
        policy: What decides on recipients that were not accepted.
        connections: Where connections come from.
        keep_connections: Whether connections are left open there for the next worker.
        render_budget: What the templates of one message may take.
        clock: What tells the time.
    """

    buffer: OutcomeBuffer
    gate: CommitGate
    policy: OutcomePolicy
    connections: ConnectionPool
    keep_connections: bool
    render_budget: RenderBudget = DEFAULT_BUDGET
    clock: Clock = SYSTEM_CLOCK


class Sender:
    """Takes transactions from the queue of its pool until that is closed.

    Args:
        pool: The relay's.
        context: What it shares with other senders.
    """

    def __init__(self, pool: SenderPool, context: SenderContext) -> None:
        self._pool = pool
        self._relay = pool.relay
        self._breaker = pool.breaker
        self._throttle = pool.throttle
        self._queue = pool.queue
        self._context = context
        self._clock = context.clock
        budget = context.render_budget
        self._loop_budget = replace(budget, seconds=min(budget.seconds, SLOW_S))
        self._reporter = OutcomeReporter(pool, context.buffer, context.policy, context.clock)
        self._limits = context.connections.limits_of(pool.relay)
        self._session: Transport | None = None
        #: A transaction that was taken, and has neither an outcome nor begun.
        self._taken: MailTransaction | None = None
        #: The relay has no connection for this sender.
        self._is_surplus = False
        #: The transaction at hand, and the one whose envelope is already on its way.
        self._current: MailTransaction | None = None
        self._next: MailTransaction | None = None
        self._ended = threading.Event()

    def run(self) -> None:
        """Send one transaction after the other; hang up when there is none for a while."""
        try:
            while not (self._queue.is_closed or self._is_surplus):
                self._take_one()
            self._release_connection()
        finally:
            self._pool.ended(self)
            self._ended.set()

    @property
    def has_ended(self) -> bool:
        """Return whether it takes no more transactions, for whatever reason."""
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

    def _deliver(self, transaction: MailTransaction) -> None:
        """Send ``transaction``, and whatever follows it on the same connection without a pause."""
        ready = self._ready(transaction)
        self._taken = None
        session = self._session
        if ready is None or session is None:
            return
        self._current = ready
        is_reused = session.transactions > 0
        try:
            session.send_envelope(ready.envelope)
            # Or the file of the first mail stays while others follow it on the connection.
            del ready, transaction
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

    def _ready(self, transaction: MailTransaction) -> MailTransaction | None:
        """Return what can be sent of ``transaction``, with a session for it; None: nothing."""
        self._taken = transaction
        if not (self._is_allowed(transaction) and self._compose(transaction)):
            return None
        session = self._session_for(transaction)
        if session is None or len(transaction.claims) == 1:
            return None if session is None else transaction
        return self._cut_to_size(transaction, session)

    def _is_allowed(self, transaction: MailTransaction) -> bool:
        """Wait for the relay's rate; where that takes long defer the mail, and return False."""
        claims = transaction.claims
        while not self._throttle.try_acquire(claims):
            domain_s = self._throttle.domain_retry_after_s(claims)
            if domain_s > 0:
                # Not waited for: others have mail for other domains.
                self._reporter.defer_for_rate(transaction, domain_s)
                return False
            relay_s = self._throttle.relay_retry_after_s()
            if relay_s > LONGEST_WAIT_S:
                self._reporter.defer_for_rate(transaction, relay_s)
                return False
            self._queue.wait_until_closed(relay_s)
            if self._queue.is_closed:
                self._context.buffer.release(claims)
                return False
        return True

    def _compose(self, transaction: MailTransaction) -> bool:
        """Make ``transaction`` ready to be sent; return False where its fate needs no relay."""
        if not transaction.batch.holds(transaction.claims, self._clock.monotonic()):
            self._context.buffer.release(transaction.claims)
            return False
        message = transaction.composer.message
        try:
            envelope, payload = self._composed(transaction)
        except MessageError as error:
            self._reporter.reject_unsendable(transaction, error)
            return False
        except (OSError, MemoryError, SQLAlchemyError) as error:
            log.warning(
                "could not prepare a mail, which is tried again later: %s",
                reason_of(error),
                extra={"message_id": message.id},
            )
            self._reporter.defer_for_shortage(transaction, error)
            return False
        except Exception as error:
            log.exception("a message cannot be composed", extra={"message_id": message.id})
            self._reporter.failed_unexpectedly(transaction, error)
            return False
        transaction.begin(envelope, payload, self._clock)
        return True

    def _composed(self, transaction: MailTransaction) -> tuple[Envelope, Payload]:
        """Compose the mail here, or aside where the other connections would have to wait for it.

        A template that proves slow here is given up after 20 ms, and rendered aside from then on.
        """
        composer, claims = transaction.composer, transaction.claims
        if not composer.is_slow_to_compose:
            try:
                return composer.compose_for(claims, self._loop_budget)
            except TemplateTooSlow:
                pass
        return run_in_thread(lambda: composer.compose_for(claims, self._context.render_budget))

    def _cut_to_size(
        self, transaction: MailTransaction, session: Transport
    ) -> MailTransaction | None:
        """Return the part of ``transaction`` that the relay takes at once; put back the rest."""
        most = self._limits.max_recipients(session.max_recipients)
        claims = transaction.claims
        if most is None or len(claims) <= most:
            return transaction
        part = self._taken = transaction.subset(claims[:most])
        self._queue.put_front(transaction.subset(claims[most:]))
        return part if self._compose(part) else None

    def _session_for(self, transaction: MailTransaction) -> Transport | None:
        """Return a usable session; None where the transaction has ended without one."""
        session = self._session
        if session is not None and (self._breaker.is_open or not session.is_usable):
            # While the circuit breaker is open as well: one of us probes on a new connection.
            self._release_connection()
        if self._session is None:
            self._session = self._connected(transaction)
        if self._session is None or self._is_refused_locally(self._session, transaction):
            return None
        return self._session

    def _connected(self, transaction: MailTransaction) -> Transport | None:
        if not self._pool.may_connect:
            self._yield(transaction)
            return None
        if not self._breaker.allow_request():
            # Due again at once: another relay of its route may take it meanwhile.
            self._context.buffer.release(transaction.claims)
            return None
        try:
            with self._pool.connecting():
                return run_in_thread(lambda: self._context.connections.acquire(self._relay))
        except RelayError as error:
            if self._is_crowded_out(error):
                self._yield(transaction)
                return None
            said = error.transcript
            transaction.set_all(classify_error(error))
            self._reporter.report(transaction, lambda: said)
            return None

    def _is_crowded_out(self, error: RelayError) -> bool:
        """Return whether the relay only has no room for one more connection of ours."""
        if self._breaker.is_open or not _turns_away(error) or not self._pool.has_others():
            return False
        log.info(
            "the relay %s takes %d connections at the moment and refused one more: %s",
            self._relay.name,
            self._pool.limit.current(),
            error.reply or error,
        )
        return True

    def _yield(self, transaction: MailTransaction) -> None:
        """Leave ``transaction`` to those senders that have a connection, and end."""
        self._queue.put_front(transaction)
        self._is_surplus = True

    def _is_refused_locally(self, session: Transport, transaction: MailTransaction) -> bool:
        """Report what this relay has announced it could not take; return whether it was so."""
        outcome = session.local_refusal(transaction.envelope)
        if outcome is None:
            return False
        transaction.set_all(outcome)
        self._reporter.report(transaction, self._transcript)
        return True

    def _transmit(self, session: Transport, current: MailTransaction) -> None:
        """Send one transaction whose envelope is on its way, and the next envelope with its dot.

        Raises:
            RelayError: the connection is of no use any more.
            LeaseLost: the claims ran out before the final dot.
        """
        envelope_replies = session.read_envelope_replies()
        if not envelope_replies.all_accepted:
            current.outcomes = list(envelope_replies.outcomes())
            self._share_limits(session)
        if envelope_replies.is_ready_for_content:
            session.send_content(current.payload.chunks())
            # Before the gate: behind it nothing may keep the dot waiting.
            self._next = self._next_on(session)
            self._admit(current)
            replies = session.end_data(self._next.envelope if self._next else None)
            if envelope_replies.all_accepted and all(reply.is_positive for reply in replies):
                self._reporter.accepted(current, replies)
                return
            current.set_outcomes(self._final_outcomes(replies))
        self._reporter.report(current, self._transcript)

    def _final_outcomes(self, replies: Sequence[Reply]) -> list[Outcome]:
        """Return what the replies to the final dot mean, for each recipient accepted so far."""
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

    def _admit(self, current: MailTransaction) -> None:
        """Wait until the outcome can be recorded; where doubt is to be held, commit the intent."""
        claims = current.open_claims()
        batch = current.batch
        if current.composer.message.on_doubt is _HOLD:
            intent = self._context.buffer.request_intent(claims)
            remaining_s = max(batch.send_deadline - self._clock.monotonic(), 0.0)
            if not intent.answered.wait(remaining_s) or len(intent.held) < len(claims):
                raise LeaseLost("the intent to write the final dot was not committed in time")
        self._context.gate.acquire(batch, claims)
        current.admitted = len(claims)

    def _next_on(self, session: Transport) -> MailTransaction | None:
        """Return the transaction to begin together with this final dot, if there is one."""
        if self._breaker.is_open:
            return None
        if self._limits.refuses_early and session.pipelining is Pipelining.FULL:
            # Another connection found that out: here the next mail waits for the reply.
            return None
        while session.accepts_more and (following := self._queue.get_nowait()) is not None:
            self._taken = following
            if not self._throttle.try_acquire(following.claims):
                self._queue.put_front(following)
                self._taken = None
                return None
            ready = following if self._compose(following) else None
            if ready is not None and len(following.claims) > 1:
                ready = self._cut_to_size(following, session)
            is_next = ready is not None and not self._is_refused_locally(session, ready)
            self._taken = None
            if is_next:
                return ready
        return None

    def _connection_failed(self, error: RelayError, *, is_reused: bool) -> None:
        """The connection failed: the transaction whose dot was written is in doubt, no other."""
        current, following = self._current, self._next
        self._current = self._next = None
        if following is not None:
            self._queue.put_front(following)
        if current is None:
            return
        is_between_mails = isinstance(error, Disconnected) and error.phase is Phase.MAIL
        if is_reused and is_between_mails and current.may_return():
            # The relay dropped a connection between two mails, as relays do.
            self._queue.put_front(current)
            return
        outcome = classify_error(error)
        current.set_outcomes([classify(_DOT, reply) for reply in error.replies])
        current.set_all(outcome)
        self._reporter.report(current, self._transcript)

    def _lease_lost(self) -> None:
        """The lease is over, or nearly: report nothing, another worker may hold the claims."""
        assert self._current is not None
        self._context.buffer.release(self._current.claims)
        if self._next is not None:
            self._queue.put_front(self._next)
        self._current = self._next = None
        if self._session is not None:
            self._session.close()

    def _abandon_after_bug(self, error: Exception) -> None:
        """After an unexpected error: all mail that this sender holds gets an outcome naming it."""
        taken, current, following = self._taken, self._current, self._next
        self._taken = self._current = self._next = None
        if taken is not None:
            self._report(taken, lambda one: self._reporter.failed_unexpectedly(one, error))
        if current is not None:
            self._report(
                current, lambda one: self._reporter.interrupted(one, error, self._transcript)
            )
        if following is not None:
            # At most its envelope was sent, and the error was met in the one before it.
            self._report(following, lambda one: self._put_back(one, error))
        session, self._session = self._session, None
        if session is not None:
            with suppress(Exception):
                session.close()

    def _put_back(self, transaction: MailTransaction, error: Exception) -> None:
        if transaction.may_return():
            self._queue.put_front(transaction)
        else:
            self._reporter.failed_unexpectedly(transaction, error)

    def _report(
        self, transaction: MailTransaction, report: Callable[[MailTransaction], None]
    ) -> None:
        """Report an outcome; where not even that can be done, let the claims run out."""
        try:
            report(transaction)
        except Exception:
            message_id = transaction.composer.message.id
            log.exception("no outcome could be given", extra={"message_id": message_id})
            self._context.buffer.abandon(transaction.claims)

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

    Silence is no such thing: then the other connections may be as dead.
    """
    if error.phase in _BEFORE_LOGIN:
        return isinstance(error, ConnectError | Disconnected)
    return error.phase is Phase.AUTH and error.reply is not None and error.reply.code < 500
