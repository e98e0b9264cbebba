"""Many conversations in one thread, each written as if it had a thread of its own.

A conversation with a relay waits most of the time. With a thread for each, every wait is a thread
put to sleep, woken, and queued for the interpreter: with sixteen of them a third of what a mail
costs. So each is a strand (a greenlet): where it would wait it hands over to the hub, which waits
for all of them.

`flag` and `in_thread` may be called from anywhere; without a strand they do what a thread would.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from math import inf
from time import monotonic
from typing import Protocol, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

from postroom.log import Log
from postroom.smtp import pause

T = TypeVar("T")

log = Log("postroom.delivery")

#: So that a deadline however far off is one that ``poll()`` can be given.
_LONGEST_WAIT_S = 86_400.0


class Flag(Protocol):
    """As `threading.Event`: set from any thread, waited for by who made it."""

    def set(self) -> None:
        """Let go on who waits."""
        ...

    def wait(self, timeout: float | None = None, /) -> bool:
        """Wait until it is set, ``timeout`` seconds at the most; return whether it is."""
        ...


def flag() -> Flag:
    """Return a flag for the strand, or the thread, that asks for it."""
    strand = getcurrent()
    return _StrandFlag(strand) if isinstance(strand, _Strand) else threading.Event()


def in_thread(call: Callable[[], T]) -> T:
    """Return what ``call`` returns; a strand has it run in a thread, so that the others go on.

    Raises:
        RuntimeError: no thread can be started, or ``call`` wanted to end it.
    """
    if not isinstance(getcurrent(), _Strand):
        return call()
    done = flag()
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)
        except BaseException as error:
            # A `SystemExit`, say, of an application's callable: not to end all conversations.
            future.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))
        finally:
            done.set()

    threading.Thread(target=run, name="postroom-aside", daemon=True).start()
    done.wait()
    return future.result()


class Hub:
    """Runs strands in one thread, which begins with the first and ends with the last of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: _Loop | None = None

    def spawn(self, run: Callable[[], None]) -> None:
        """Run ``run`` as a strand of its own. Safe from any thread.

        Raises:
            RuntimeError, OSError: no thread or no pipe is to be had; the next call tries again.
        """
        with self._lock:
            if self._loop is None:
                self._loop = self._started(_Loop(self._may_end))
            self._loop.begin(run)

    def _started(self, loop: _Loop) -> _Loop:
        try:
            threading.Thread(target=loop.run, name=self._name, daemon=True).start()
        except BaseException:
            loop.close()
            raise
        return loop

    def _may_end(self, loop: _Loop) -> bool:
        """Say that ``loop`` has nothing left to run; return whether that is final."""
        with self._lock:
            if loop.has_more:
                return False
            self._loop = None
            return True


class _Strand(pause.Strand):
    """One call that a hub runs, in the thread of its hub."""

    def __init__(self, loop: _Loop, run: Callable[[], None]) -> None:
        super().__init__(run)
        self.loop = loop

    def wait_for(self, descriptor: int, events: int, timeout_s: float) -> bool:
        return self.loop.wait_for(self, descriptor, events, timeout_s)


class _StrandFlag:
    """Set from any thread, waited for by one strand."""

    def __init__(self, strand: _Strand) -> None:
        self._strand = strand
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        self._strand.loop.raised(self)

    def wait(self, timeout: float | None = None, /) -> bool:
        if not self._is_set:
            self._strand.loop.wait_for_flag(self._strand, self, inf if timeout is None else timeout)
        return self._is_set


class _Loop:
    """The thread of a hub: it lets each strand run until it waits, then waits for all."""

    def __init__(self, may_end: Callable[[_Loop], bool]) -> None:
        self._may_end = may_end
        #: What other threads bring; the bell ends the wait.
        self._calls: deque[Callable[[], None]] = deque()
        self._raised: deque[_StrandFlag] = deque()
        bell, clapper = os.pipe()
        os.set_blocking(clapper, False)
        self._bell = os.fdopen(bell, "rb", buffering=0)
        self._clapper = os.fdopen(clapper, "wb", buffering=0)
        self._is_rung = False
        #: The number of a closed pipe may be another file's the next moment.
        self._closing = threading.Lock()
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)
        #: Who waits for what; ``_until`` has all of them, with their deadlines.
        self._by_socket: dict[int, _Strand] = {}
        self._by_flag: dict[_StrandFlag, _Strand] = {}
        self._until: dict[_Strand, float] = {}
        #: No deadline is earlier than this one.
        self._first = inf
        self._main: greenlet

    # -- called from other threads ------------------------------------------------------------

    @property
    def has_more(self) -> bool:
        """Return whether there are strands to begin."""
        return bool(self._calls)

    def begin(self, run: Callable[[], None]) -> None:
        """Have ``run`` begun as a strand."""
        self._calls.append(run)
        self._ring()

    def raised(self, raised: _StrandFlag) -> None:
        """Have the strand go on that waits for this flag, if it still does."""
        self._raised.append(raised)
        self._ring()

    def _ring(self) -> None:
        if not self._is_rung:
            self._is_rung = True
            with self._closing:
                # Where it is closed the loop has ended, and nobody waits for anything.
                if not self._clapper.closed:
                    self._clapper.write(b"\0")

    # -- called from a strand -----------------------------------------------------------------

    def wait_for(self, strand: _Strand, descriptor: int, events: int, timeout_s: float) -> bool:
        """Let others run until the socket is ready; return whether it was, in time."""
        self._poll.register(descriptor, events)
        self._by_socket[descriptor] = strand
        is_ready = self._pause(strand, timeout_s)
        del self._by_socket[descriptor]
        self._poll.unregister(descriptor)
        return is_ready

    def wait_for_flag(self, strand: _Strand, awaited: _StrandFlag, timeout_s: float) -> None:
        """Let others run until the flag is set, or the time is over."""
        self._by_flag[awaited] = strand
        self._pause(strand, timeout_s)
        del self._by_flag[awaited]

    def _pause(self, strand: _Strand, timeout_s: float) -> bool:
        until = self._until[strand] = monotonic() + timeout_s
        if until < self._first:
            self._first = until
        is_ready: bool = self._main.switch()
        del self._until[strand]
        return is_ready

    # -- the thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Run until every strand has come to its end."""
        self._main = getcurrent()
        while self._calls or self._until or not self._may_end(self):
            self._turn()
        self.close()

    def close(self) -> None:
        """Give back the pipe of a loop that does not run, or not any more."""
        with self._closing:
            self._bell.close()
            self._clapper.close()

    def _turn(self) -> None:
        for descriptor, _ in self._poll.poll(self._timeout_ms()):
            if descriptor == self._bell.fileno():
                self._answer_the_bell()
            else:
                self._by_socket[descriptor].switch(True)
        if monotonic() >= self._first:
            self._end_waits()

    def _timeout_ms(self) -> float:
        return max(min(self._first - monotonic(), _LONGEST_WAIT_S), 0.0) * 1000

    def _answer_the_bell(self) -> None:
        self._bell.read(64)
        self._is_rung = False  # before looking: whoever brings something from now on rings again
        while self._calls:
            _Strand(self, _guarded(self._calls.popleft())).switch()
        while self._raised:
            strand = self._by_flag.get(self._raised.popleft())
            if strand is not None:
                strand.switch(True)

    def _end_waits(self) -> None:
        """Let those go on whose time is over."""
        now = monotonic()
        for strand in [strand for strand, until in self._until.items() if until <= now]:
            if self._until.get(strand, inf) <= now:
                strand.switch(False)
        self._first = min(self._until.values(), default=inf)


def _guarded(run: Callable[[], None]) -> Callable[[], None]:
    """Return ``run`` so that its failure is its own, and not that of all strands."""

    def guarded() -> None:
        try:
            run()
        except GreenletExit:
            raise
        except BaseException:
            log.exception("a sender ended by an error of our own")

    return guarded
