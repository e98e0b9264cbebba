"""The ledger thread: the only one of a worker that writes to the database.

It claims, commits outcomes, renews leases and answers intents: all that is due, in one
transaction. While a commit runs, results pile up; the next commit takes them all. No
transaction is open while SMTP is spoken.
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
from postroom.clock import monotonic, utc_now
from postroom.delivery import event_log
from postroom.delivery.claims import ClaimBatch, ClaimTracker, Prefetch
from postroom.delivery.config import WorkerConfig
from postroom.delivery.dispatcher import Dispatcher
from postroom.delivery.outcome_buffer import CommitGate, OutcomeBuffer, PendingWrites
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
    """What the ledger thread works with. ``token`` gives a fresh random one at each call."""

    store: DeliveryStore
    buffer: OutcomeBuffer
    gate: CommitGate
    dispatcher: Dispatcher
    config: WorkerConfig
    new_lease_token: Callable[[], int]


class Coordinator(threading.Thread):
    """Runs until it is stopped, or until ``until`` has come."""

    def __init__(self, instruments: CoordinatorDeps, until: StopWhen) -> None:
        super().__init__(name="postroom-ledger", daemon=True)
        self._store = instruments.store
        self._buffer = instruments.buffer
        self._gate = instruments.gate
        self._dispatcher = instruments.dispatcher
        self._config = instruments.config
        self._new_lease_token = instruments.new_lease_token
        self._until = until
        self._claims = ClaimTracker()
        self._prefetch = Prefetch(most=self._config.claim_batch_size, now=monotonic())
        self._poll = Interval(self._config.poll_interval_s, now=monotonic())
        self._heartbeat = Interval(_HEARTBEAT_S, now=monotonic())
        self._unwritten = PendingWrites()
        #: How often in a row a commit has failed, and a turn outside it.
        self._failures = self._stumbles = 0
        #: How often in a row the database has refused, and why, once that is no passing thing.
        self._refusals = 0
        self.refused: ConfigError | None = None
        #: Lanes in which more may be due: those that had more than we asked for, and all of
        #: them after a hint.
        self._lanes_with_more: set[int] = set()
        self._wake_requested = True
        self._stopping_since: float | None = None
        self._is_idle = False
        self._is_busy = False

    # -- called from other threads ------------------------------------------------------------

    def wake(self) -> None:
        """Say that something may be due. A hint may be lost: polling finds the mail as well."""
        self._wake_requested = True
        self._buffer.wake()

    def stop(self) -> None:
        """Claim nothing more; finish what is on the wire, give back the rest, and end."""
        if self._stopping_since is None:
            self._stopping_since = monotonic()
        self._buffer.wake()

    @property
    def is_stopping(self) -> bool:
        """Return whether the thread was stopped."""
        return self._stopping_since is not None

    def is_overdue(self, shutdown_grace_s: float) -> bool:
        """Return whether the thread was stopped longer than ``shutdown_grace_s`` ago."""
        since = self._stopping_since
        return since is not None and monotonic() - since > shutdown_grace_s

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
                self._stumbled()
        self._each(self._take_leave, self._deregister)

    def _step(self) -> None:
        """Wait until there may be something to do, and do it."""
        self._buffer.wait(self._wait_s())
        if self._is_busy:
            time.sleep(self._store.commit_delay_s)
        if self.is_stopping:
            self._buffer.release(self._dispatcher.close())
        self.run_once()
        self._stumbles = 0

    def _stumbled(self) -> None:
        """After an error of our own outside the transaction: nothing is lost, and we go on."""
        self._stumbles += 1
        pause_s = _BACKOFF.pause_s(self._stumbles)
        log.exception("the ledger thread met an error of our own; it goes on in %.1f s", pause_s)
        time.sleep(pause_s)

    def _each(self, *steps: Callable[[], object]) -> None:
        """Take every step, whatever becomes of the others."""
        for step in steps:
            try:
                step()
            except Exception:
                log.exception("the ledger thread met an error of our own; it goes on")

    def _take_leave(self) -> None:
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
        if len(self._claims) or not self._unwritten.is_empty or not self._buffer.is_empty:
            return False
        return self.is_stopping or (self._is_idle and self._until is not StopWhen.TOLD)

    def _wait_s(self) -> float:
        if self._failures:
            return _BACKOFF.pause_s(self._failures)
        if self._wake_requested or self._limits():
            return 0.0
        return min(self._config.poll_interval_s, self._config.lease_s / 6)

    def run_once(self) -> None:
        """One transaction, if there is anything to do in one."""
        now = monotonic()
        self._store.trim()
        if self._poll.is_due(now) or self._wake_requested:
            self._wake_requested = False
            self._lanes_with_more = set(_LANES)
        # Kept from here on: whatever happens before the commit, they wait for the next turn.
        papers = self._unwritten = self._unwritten.merged(self._buffer.drain())
        self._is_busy = len(papers.outcomes) >= _BUSY_OUTCOMES
        self._claims.remove(papers.abandoned)
        renewals = self._claims.due_for_renewal(now)
        work = self._unit_of_work(papers, renewals, beats=self._heartbeat.is_due(now))
        if work.is_nothing:
            return
        try:
            settled = self._store.commit(work)
        except Exception as error:
            # Whatever it is: outcomes are kept, nothing goes out, and the next turn tries again.
            self._on_commit_failed(papers, error)
        else:
            self._unwritten = PendingWrites()
            self._each(
                lambda: self._gate.release(papers.admitted),
                lambda: self._on_committed(papers, settled),
                lambda: self._renewed(renewals, settled, now),
                lambda: self._dispatch_claims(work, settled, now),
                lambda: event_log.log_outcomes(papers.outcomes),
            )

    def _unit_of_work(
        self, papers: PendingWrites, renewals: list[ClaimBatch], *, beats: bool
    ) -> UnitOfWork:
        return UnitOfWork(
            outcomes=papers.outcomes,
            released=papers.released,
            intents=[intent.claims for intent in papers.intents],
            renewals=[batch.claims for batch in renewals],
            claim_request=ClaimRequest(
                limits=self._limits(),
                lease_s=self._config.lease_s,
                lease_token=self._new_lease_token(),
                takes_invalid_rows=beats,
            ),
            heartbeat_at=utc_now() if beats else None,
            wants_is_empty=self._until is StopWhen.EMPTY,
        )

    def _limits(self) -> dict[int, int]:
        """Return how many to claim of which lanes; none while we stop or all relays rest."""
        if self.is_stopping or self._dispatcher.is_paused():
            return {}
        rooms = {
            lane: self._prefetch.available(self._claims.count(lane))
            for lane in self._lanes_with_more
        }
        return {lane: room for lane, room in sorted(rooms.items()) if room}

    def _on_commit_failed(self, papers: PendingWrites, error: Exception) -> None:
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
            len(papers.outcomes),
            _BACKOFF.pause_s(self._failures),
            refused or str(getattr(error, "orig", error)).partition("\n")[0],
            exc_info=None if isinstance(error, SQLAlchemyError) else error,
        )

    def _on_committed(self, papers: PendingWrites, settled: Committed) -> None:
        """Let go of what has its outcome, and let those go on who waited for the commit."""
        if self._failures:
            log.info("the database answers again")
            self._failures = 0
        self._refusals, self.refused = 0, None
        self._claims.remove(result.claim for result in papers.outcomes)
        self._claims.remove(papers.released)
        for intent, held in zip(papers.intents, settled.intents, strict=True):
            intent.complete(held)
        self._prefetch.record(len(papers.outcomes), monotonic())

    def _renewed(self, renewals: list[ClaimBatch], settled: Committed, began: float) -> None:
        for batch, held in zip(renewals, settled.renewals, strict=True):
            self._claims.extended(batch, held, began)

    def _dispatch_claims(self, work: UnitOfWork, settled: Committed, began: float) -> None:
        """Hand what was claimed to the senders, and remember where there may be more."""
        limits = work.claim_request.limits
        got = Counter(claim.lane for claim in settled.claims)
        self._lanes_with_more -= {lane for lane, limit in limits.items() if got[lane] < limit}
        if settled.claims:
            batch = ClaimBatch(
                settled.claims,
                lease_token=work.claim_request.lease_token,
                lease_s=self._config.lease_s,
                claimed_at=began,
            )
            self._claims.add(batch)
            self._send(batch, settled)
        if self._until is StopWhen.EMPTY:
            self._is_idle = settled.is_queue_empty
        else:
            self._is_idle = not self._lanes_with_more or self._dispatcher.is_paused()

    def _send(self, batch: ClaimBatch, settled: Committed) -> None:
        try:
            self._buffer.add(self._dispatcher.dispatch(settled.claims, settled.messages, batch))
        except Exception:
            # Let the leases run out: what fails time after time is set aside in the end.
            log.exception("could not hand %d claims to senders", len(settled.claims))
            self._claims.remove(settled.claims)
