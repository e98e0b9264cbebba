"""The coordinator: the only thread of a worker that writes to the database.

It claims, commits outcomes, renews leases and answers intents: all that is due, in one
transaction. While a commit runs, outcomes gather; the next commit takes them all. No transaction
is open while a sender speaks with a relay.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.exc import SQLAlchemyError

from postroom.backoff import Backoff
from postroom.clock import SYSTEM_CLOCK, Clock
from postroom.delivery import event_log
from postroom.delivery.claims import ClaimBatch, ClaimTracker, Prefetch
from postroom.delivery.config import WorkerConfig
from postroom.delivery.dispatcher import Dispatcher
from postroom.delivery.outcome_buffer import CommitGate, OutcomeBuffer
from postroom.delivery.unit_of_work import Committed, DeliveryStore, UnitOfWork
from postroom.errors import ConfigError
from postroom.log import Log
from postroom.states import Lane
from postroom.storage.database_errors import refusal
from postroom.storage.queue.records import ClaimRequest


class StopWhen(StrEnum):
    """What a worker waits for before it ends."""

    #: Somebody stops it.
    TOLD = "stopped"
    #: Nothing is due: what is deferred to later or leased by another worker stays.
    DRAINED = "drained"
    #: Nothing is left in the queue: it waits for retries and other workers' leases as well.
    EMPTY = "empty"


class Interval:
    """Due at once, and again ``every_s`` after each time it was found due."""

    __slots__ = ("_due_at", "_every_s")

    def __init__(self, every_s: float, *, now: float) -> None:
        self._every_s = every_s
        self._due_at = now

    def is_due(self, now: float) -> bool:
        """Return whether the time has come; if so, it starts anew."""
        if now < self._due_at:
            return False
        self._due_at = now + self._every_s
        return True


log = Log("postroom.worker")

_BACKOFF = Backoff(first_s=0.1, longest_s=5.0)
_HEARTBEAT_S = 10.0
#: How long senders may take to say goodbye to their relays.
_QUIT_TIMEOUT_S = 3.0
#: So often in a row a database may refuse before whatever waits for an end is told: 6 s.
_PATIENCE = 7
#: So many outcomes in one commit, and mail comes fast.
_BUSY_OUTCOMES = 4
_LANES = tuple(lane.rank for lane in Lane)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorDeps:
    """What a coordinator works with.

    Attributes:
        store: The database.
        buffer: What senders leave for it.
        gate: What holds final dots back until their outcomes can be recorded.
        dispatcher: Where claims go.
        config: How many, how long, how often.
        new_lease_token: Returns a fresh random number of 63 bits for each claim.
        clock: What tells the time.
    """

    store: DeliveryStore
    buffer: OutcomeBuffer
    gate: CommitGate
    dispatcher: Dispatcher
    config: WorkerConfig
    new_lease_token: Callable[[], int]
    clock: Clock = SYSTEM_CLOCK


class Coordinator(threading.Thread):
    """Runs until it is stopped, or until ``until`` has come.

    Args:
        deps: What it works with.
        until: What it waits for before it ends.
    """

    def __init__(self, deps: CoordinatorDeps, until: StopWhen) -> None:
        super().__init__(name="postroom-coordinator", daemon=True)
        self._store = deps.store
        self._buffer = deps.buffer
        self._gate = deps.gate
        self._dispatcher = deps.dispatcher
        self._config = deps.config
        self._new_lease_token = deps.new_lease_token
        self._clock = deps.clock
        self._until = until
        self._claims = ClaimTracker()
        self._prefetch = Prefetch(most=self._config.claim_batch_size, now=self._clock.monotonic())
        self._poll = Interval(self._config.poll_interval_s, now=self._clock.monotonic())
        self._heartbeat = Interval(_HEARTBEAT_S, now=self._clock.monotonic())
        self._unwritten = UnitOfWork()
        #: How often in a row a commit has failed, and a turn outside it.
        self._failures = self._own_errors = 0
        #: How often in a row the database has refused, and why, once that is no passing thing.
        self._refusals = 0
        self.refused: ConfigError | None = None
        #: Lanes in which more may be due: those that had more than we asked for, and all of
        #: them when it was woken.
        self._lanes_with_more: set[int] = set()
        self._wake_requested = True
        self._stopping_since: float | None = None
        self._is_idle = False
        self._is_busy = False

    # -- called from other threads ------------------------------------------------------------

    def wake(self) -> None:
        """Say that something may be due. It may be lost: polling finds the mail as well."""
        self._wake_requested = True
        self._buffer.wake()

    def stop(self) -> None:
        """Claim nothing more; finish what is on the wire, give back the rest, and end."""
        if self._stopping_since is None:
            self._stopping_since = self._clock.monotonic()
        self._buffer.wake()

    @property
    def is_stopping(self) -> bool:
        """Return whether the thread was stopped."""
        return self._stopping_since is not None

    def is_overdue(self, shutdown_grace_s: float) -> bool:
        """Return whether the thread was stopped longer than ``shutdown_grace_s`` ago."""
        since = self._stopping_since
        return since is not None and self._clock.monotonic() - since > shutdown_grace_s

    def abort(self) -> None:
        """Cut what is on the wire; it is recorded as in doubt where its final dot was out."""
        self._dispatcher.abort()

    # -- the thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Take turns until there is nothing more to do."""
        while not self._is_done():
            try:
                self._step()
            except Exception:
                self._on_own_error()
        self._each(self._end_senders, self._deregister)

    def _step(self) -> None:
        """Wait until there may be something to do, and do it."""
        self._buffer.wait(self._wait_s())
        if self._is_busy:
            time.sleep(self._store.commit_delay_s)
        if self.is_stopping:
            self._buffer.release(self._dispatcher.close())
        self.run_once()
        self._own_errors = 0

    def _on_own_error(self) -> None:
        """After an error of our own outside the transaction: nothing is lost, and we go on."""
        self._own_errors += 1
        pause_s = _BACKOFF.pause_s(self._own_errors)
        log.exception("the coordinator met an error of our own; it goes on in %.1f s", pause_s)
        time.sleep(pause_s)

    def _each(self, *steps: Callable[[], object]) -> None:
        """Take every step, whatever becomes of the others."""
        for step in steps:
            try:
                step()
            except Exception:
                log.exception("the coordinator met an error of our own; it goes on")

    def _end_senders(self) -> None:
        self._buffer.release(self._dispatcher.close())
        if self.refused is not None:
            # Nothing can be recorded: what was claimed is due again when the leases are over.
            self._dispatcher.abort()
            return
        self._dispatcher.join(_QUIT_TIMEOUT_S)

    def _deregister(self) -> None:
        try:
            self._store.deregister()
        except SQLAlchemyError:
            log.warning("could not take this worker off the list; its heartbeat will grow old")

    def _is_done(self) -> bool:
        if self.refused is not None and self._until is not StopWhen.TOLD:
            return True  # what waits for an end should not wait for a person
        if len(self._claims) or self._unwritten.is_unwritten or not self._buffer.is_empty:
            return False
        return self.is_stopping or (self._is_idle and self._until is not StopWhen.TOLD)

    def _wait_s(self) -> float:
        if self._failures:
            return _BACKOFF.pause_s(self._failures)
        if self._wake_requested or self._limits():
            return 0.0
        return min(self._config.poll_interval_s, self._config.lease_s / 6)

    def run_once(self) -> None:
        """Take one turn: drain, renew, claim, commit; then answer, release and dispatch."""
        now = self._clock.monotonic()
        self._store.trim()
        if self._poll.is_due(now) or self._wake_requested:
            self._wake_requested = False
            self._lanes_with_more = set(_LANES)
        # Kept from here on: whatever happens before the commit, it waits for the next turn.
        work = self._unwritten = self._unwritten.merged(self._buffer.drain())
        self._is_busy = len(work.outcomes) >= _BUSY_OUTCOMES
        self._claims.remove(work.abandoned)
        self._complete(work, now)
        if not work.needs_transaction:
            return
        try:
            committed = self._store.commit(work)
        except Exception as error:
            # Whatever it is: outcomes are kept, nothing goes out, and the next turn tries again.
            self._on_commit_failed(work, error)
        else:
            self._unwritten = UnitOfWork()
            self._each(
                lambda: self._gate.release(work.admitted),
                lambda: self._on_committed(work, committed),
                lambda: self._on_renewed(work, committed, now),
                lambda: self._dispatch_claims(work, committed, now),
                lambda: event_log.log_outcomes(work.outcomes),
            )

    def _complete(self, work: UnitOfWork, now: float) -> None:
        """Add what is due besides: leases to extend, mail to claim, a heartbeat."""
        has_heartbeat = self._heartbeat.is_due(now)
        work.renewals = self._claims.due_for_renewal(now)
        work.claim_request = ClaimRequest(
            limits=self._limits(),
            lease_s=self._config.lease_s,
            lease_token=self._new_lease_token(),
            takes_strays=has_heartbeat,
        )
        work.heartbeat_at = self._clock.utc_now() if has_heartbeat else None
        work.wants_is_empty = self._until is StopWhen.EMPTY

    def _limits(self) -> dict[int, int]:
        """Return how many to claim of which lanes; none while we stop or all relays are paused."""
        if self.is_stopping or self._dispatcher.is_paused():
            return {}
        rooms = {
            lane: self._prefetch.available(self._claims.count(lane))
            for lane in self._lanes_with_more
        }
        return {lane: room for lane, room in sorted(rooms.items()) if room}

    def _on_commit_failed(self, work: UnitOfWork, error: Exception) -> None:
        """Keep everything for the next try, and let no mail out that could not be recorded."""
        self._gate.close()
        self._failures += 1
        refused = refusal(error)
        self._refusals = self._refusals + 1 if refused else 0
        if refused and self._refusals >= _PATIENCE:
            self.refused = ConfigError(f"the database refuses: {refused}")
        log.warning(
            "the database %s, %d outcomes wait; next try in %.1f s: %s",
            "refuses" if refused else "does not answer",
            len(work.outcomes),
            _BACKOFF.pause_s(self._failures),
            refused or str(getattr(error, "orig", error)).partition("\n")[0],
            exc_info=None if isinstance(error, SQLAlchemyError) else error,
        )

    def _on_committed(self, work: UnitOfWork, committed: Committed) -> None:
        """Let go of what has its outcome, and let those go on who waited for the commit."""
        if self._failures:
            log.info("the database answers again")
            self._failures = 0
        self._refusals, self.refused = 0, None
        self._claims.remove(result.claim for result in work.outcomes)
        self._claims.remove(work.released)
        for intent, held in zip(work.intents, committed.intents, strict=True):
            intent.complete(held)
        self._prefetch.record(len(work.outcomes), self._clock.monotonic())

    def _on_renewed(self, work: UnitOfWork, committed: Committed, began: float) -> None:
        for batch, held in zip(work.renewals, committed.renewals, strict=True):
            self._claims.extended(batch, held, began)

    def _dispatch_claims(self, work: UnitOfWork, committed: Committed, began: float) -> None:
        """Hand what was claimed to the senders, and remember where there may be more."""
        limits = work.claim_request.limits
        got = Counter(claim.lane for claim in committed.claims)
        self._lanes_with_more -= {lane for lane, limit in limits.items() if got[lane] < limit}
        if committed.claims:
            batch = ClaimBatch(
                committed.claims,
                lease_token=work.claim_request.lease_token,
                lease_s=self._config.lease_s,
                claimed_at=began,
            )
            self._claims.add(batch)
            self._send(batch, committed)
        if self._until is StopWhen.EMPTY:
            self._is_idle = committed.is_queue_empty
        else:
            self._is_idle = not self._lanes_with_more or self._dispatcher.is_paused()

    def _send(self, batch: ClaimBatch, committed: Committed) -> None:
        try:
            self._buffer.add(self._dispatcher.dispatch(committed.claims, committed.messages, batch))
        except Exception:
            # Let the leases run out: what fails time after time is set aside in the end.
            log.exception("could not hand %d claims to senders", len(committed.claims))
            self._claims.remove(committed.claims)
