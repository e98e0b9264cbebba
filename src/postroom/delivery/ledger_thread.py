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

from sqlalchemy.exc import SQLAlchemyError

from postroom.backoff import Backoff
from postroom.delivery import events
from postroom.delivery.appetite import Appetite
from postroom.delivery.batch import Batch
from postroom.delivery.books import Books, Settled, Work
from postroom.delivery.clock import monotonic, utc_now
from postroom.delivery.desk import Desk, Papers
from postroom.delivery.dispatch import Dispatch
from postroom.delivery.gate import Gate
from postroom.delivery.holdings import Holdings
from postroom.delivery.timer import Timer
from postroom.delivery.until import Until
from postroom.log import Log
from postroom.storage.diagnosis import refusal
from postroom.storage.ledger import Lease
from postroom.values.config import WorkerConfig
from postroom.values.errors import ConfigError
from postroom.values.states import Lane

log = Log("postroom.worker")

_BACKOFF = Backoff(first_s=0.1, longest_s=5.0)
_HEARTBEAT_S = 10.0
#: How long senders may take to say goodbye to their relays.
_FAREWELL_S = 3.0
#: So often in a row a database may refuse before whatever waits for an end is told: 6 s.
_PATIENCE = 7
#: So many outcomes in one commit, and mail comes fast.
_FAST = 4
_LANES = tuple(lane.rank for lane in Lane)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What the ledger thread works with. ``token`` gives a fresh random one at each call."""

    books: Books
    desk: Desk
    gate: Gate
    dispatch: Dispatch
    config: WorkerConfig
    token: Callable[[], int]


class LedgerThread(threading.Thread):
    """Runs until it is stopped, or until ``until`` has come."""

    def __init__(self, instruments: Instruments, until: Until) -> None:
        super().__init__(name="postroom-ledger", daemon=True)
        self._books = instruments.books
        self._desk = instruments.desk
        self._gate = instruments.gate
        self._dispatch = instruments.dispatch
        self._config = instruments.config
        self._token = instruments.token
        self._until = until
        self._holdings = Holdings()
        self._appetite = Appetite(most=self._config.batch, now=monotonic())
        self._poll = Timer(self._config.poll_s, now=monotonic())
        self._heartbeat = Timer(_HEARTBEAT_S, now=monotonic())
        self._kept = Papers()
        #: How often in a row a commit has failed, and a turn outside it.
        self._failures = self._stumbles = 0
        #: How often in a row the database has refused, and why, once that is no passing thing.
        self._refusals = 0
        self.refused: ConfigError | None = None
        #: Lanes in which more may be due: those that had more than we asked for, and all of
        #: them after a hint.
        self._promising: set[int] = set()
        self._is_hinted = True
        self._stopping_since: float | None = None
        self._is_idle = False
        self._is_fast = False

    # -- called from other threads ------------------------------------------------------------

    def hint(self) -> None:
        """Say that something may be due. A hint may be lost: polling finds the mail as well."""
        self._is_hinted = True
        self._desk.ring()

    def stop(self) -> None:
        """Claim nothing more; finish what is on the wire, give back the rest, and end."""
        if self._stopping_since is None:
            self._stopping_since = monotonic()
        self._desk.ring()

    @property
    def is_stopping(self) -> bool:
        """Return whether the thread was stopped."""
        return self._stopping_since is not None

    def is_overdue(self, grace_s: float) -> bool:
        """Return whether the thread was stopped longer than ``grace_s`` ago."""
        since = self._stopping_since
        return since is not None and monotonic() - since > grace_s

    def cut(self) -> None:
        """Cut what is on the wire; it is recorded as in doubt where its final dot was out."""
        self._dispatch.cut()

    # -- the thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Take turns until there is nothing more to do."""
        while not self._is_done():
            try:
                self._step()
            except Exception:
                self._stumbled()
        self._each(self._take_leave, self._leave)

    def _step(self) -> None:
        """Wait until there may be something to do, and do it."""
        self._desk.wait(self._wait_s())
        if self._is_fast:
            time.sleep(self._books.gather_s)
        if self.is_stopping:
            self._desk.release(self._dispatch.close())
        self._turn()
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
        self._desk.release(self._dispatch.close())
        if self.refused is not None:
            # Nothing can be recorded: what was claimed is due again when the leases are over.
            self._dispatch.cut()
            return
        self._dispatch.join(_FAREWELL_S)

    def _leave(self) -> None:
        try:
            self._books.leave()
        except SQLAlchemyError:
            log.warning("could not take this worker off the list; its heartbeat will grow old")

    def _is_done(self) -> bool:
        if self.refused is not None and self._until is not Until.STOPPED:
            return True  # what waits for an end should not wait for a person
        if len(self._holdings) or not self._kept.is_empty or not self._desk.is_clear:
            return False
        return self.is_stopping or (self._is_idle and self._until is not Until.STOPPED)

    def _wait_s(self) -> float:
        if self._failures:
            return _BACKOFF.pause_s(self._failures)
        if self._is_hinted or self._limits():
            return 0.0
        return min(self._config.poll_s, self._config.lease_s / 6)

    def _turn(self) -> None:
        """One transaction, if there is anything to do in one."""
        now = monotonic()
        self._books.trim()
        if self._poll.is_due(now) or self._is_hinted:
            self._is_hinted = False
            self._promising = set(_LANES)
        # Kept from here on: whatever happens before the commit, they wait for the next turn.
        papers = self._kept = self._kept.joined(self._desk.take())
        self._is_fast = len(papers.results) >= _FAST
        self._holdings.drop(papers.abandoned)
        renewals = self._holdings.to_renew(now)
        work = self._work(papers, renewals, beats=self._heartbeat.is_due(now))
        if work.is_nothing:
            return
        try:
            settled = self._books.settle(work)
        except Exception as error:
            # Whatever it is: outcomes are kept, nothing goes out, and the next turn tries again.
            self._failed(papers, error)
        else:
            self._kept = Papers()
            self._each(
                lambda: self._gate.leave(papers.passed),
                lambda: self._committed(papers, settled),
                lambda: self._renewed(renewals, settled, now),
                lambda: self._take_in(work, settled, now),
                lambda: events.tell(papers.results),
            )

    def _work(self, papers: Papers, renewals: list[Batch], *, beats: bool) -> Work:
        return Work(
            results=papers.results,
            released=papers.released,
            intents=[intent.claims for intent in papers.intents],
            renewals=[batch.claims for batch in renewals],
            lease=Lease(
                limits=self._limits(),
                lease_s=self._config.lease_s,
                token=self._token(),
                takes_strays=beats,
            ),
            beats_at=utc_now() if beats else None,
            asks_if_empty=self._until is Until.EMPTY,
        )

    def _limits(self) -> dict[int, int]:
        """Return how many to claim of which lanes; none while we stop or all relays rest."""
        if self.is_stopping or self._dispatch.is_resting():
            return {}
        rooms = {
            lane: self._appetite.room(self._holdings.in_lane(lane)) for lane in self._promising
        }
        return {lane: room for lane, room in sorted(rooms.items()) if room}

    def _failed(self, papers: Papers, error: Exception) -> None:
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
            len(papers.results),
            _BACKOFF.pause_s(self._failures),
            refused or str(getattr(error, "orig", error)).partition("\n")[0],
            exc_info=None if isinstance(error, SQLAlchemyError) else error,
        )

    def _committed(self, papers: Papers, settled: Settled) -> None:
        """Let go of what has its outcome, and let those go on who waited for the commit."""
        if self._failures:
            log.info("the database answers again")
            self._failures = 0
        self._refusals, self.refused = 0, None
        self._holdings.drop(result.claim for result in papers.results)
        self._holdings.drop(papers.released)
        for intent, held in zip(papers.intents, settled.intents, strict=True):
            intent.answer(held)
        self._appetite.done(len(papers.results), monotonic())

    def _renewed(self, renewals: list[Batch], settled: Settled, began: float) -> None:
        for batch, held in zip(renewals, settled.renewals, strict=True):
            self._holdings.renewed(batch, held, began)

    def _take_in(self, work: Work, settled: Settled, began: float) -> None:
        """Hand what was claimed to the senders, and remember where there may be more."""
        limits = work.lease.limits
        got = Counter(claim.lane for claim in settled.claims)
        self._promising -= {lane for lane, limit in limits.items() if got[lane] < limit}
        if settled.claims:
            batch = Batch(
                settled.claims,
                token=work.lease.token,
                lease_s=self._config.lease_s,
                claimed_at=began,
            )
            self._holdings.add(batch)
            self._send(batch, settled)
        if self._until is Until.EMPTY:
            self._is_idle = settled.is_queue_empty
        else:
            self._is_idle = not self._promising or self._dispatch.is_resting()

    def _send(self, batch: Batch, settled: Settled) -> None:
        try:
            self._desk.report(self._dispatch.send(settled.claims, settled.mails, batch))
        except Exception:
            # Let the leases run out: what fails time after time is set aside in the end.
            log.exception("could not hand %d claims to senders", len(settled.claims))
            self._holdings.drop(settled.claims)
