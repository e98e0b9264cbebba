"""Several worker processes on one outbox: started, watched, started again, stopped together.

They share nothing but the database; the parent touches no mail.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from postroom.backoff import Backoff
from postroom.cli.errors import ExitCode
from postroom.duration import human_duration
from postroom.log import Log

log = Log("postroom.worker")

_LOOK_UP_S = 0.1
_BACKOFF = Backoff(first_s=1.0, longest_s=30.0)
#: A process that worked so long has not failed to start.
_PROVEN_S = 60.0


class Process(Protocol):
    """A child process, as far as a supervisor needs it; `subprocess.Popen` is one."""

    pid: int

    def poll(self) -> int | None:
        """Return its exit code; None while it runs."""
        ...

    def terminate(self) -> None:
        """Send SIGTERM."""
        ...

    def kill(self) -> None:
        """Send SIGKILL."""
        ...

    def wait(self) -> int:
        """Wait until it has ended."""
        ...


@contextmanager
def child_launcher(arguments: Sequence[str]) -> Iterator[Callable[[], Process]]:
    """Yield what starts ``postroom`` with ``arguments``, in a process that goes when this one goes.

    How it learns of that is the end of its standard input, which only we hold open.
    """
    lifeline, held = os.pipe()

    def start() -> Process:
        return subprocess.Popen(  # noqa: S603  our own interpreter, with options of our own
            [sys.executable, "-m", "postroom.cli.member", *arguments],
            stdin=lifeline,
            # A Ctrl-C at the terminal is for the parent alone, which then stops all of them.
            process_group=0,
        )

    try:
        yield start
    finally:
        os.close(held)
        os.close(lifeline)


@dataclass(slots=True, kw_only=True)
class _Slot:
    """The process with this number, or when the next one starts."""

    number: int
    process: Process | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    failures: int = 0
    is_done: bool = False


@dataclass(kw_only=True)
class Supervisor:
    """Keeps ``size`` processes at work; ``start`` starts one, ``clock`` is monotonic.

    With ``ends`` a process that ends with 0 has done its part, and is not started again; nor is
    one that says the set-up is wrong (``has_failed``). Once stopped, what takes longer than
    ``shutdown_grace_s`` is killed.
    """

    start: Callable[[], Process]
    size: int
    ends: bool
    shutdown_grace_s: float
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    has_failed: bool = field(default=False, init=False)
    _stops: int = field(default=0, init=False)

    def stop(self) -> None:
        """Stop all gently; the second time at once. May be called from a signal handler."""
        self._stops += 1

    def run(self) -> bool:
        """Work until stopped, or until every process has done its part.

        Returns whether all ended in order; otherwise some had to be killed.
        """
        slots = [_Slot(number=number + 1) for number in range(self.size)]
        try:
            while not self._stops and not all(slot.is_done for slot in slots):
                for slot in slots:
                    self._tend(slot)
                self.pause(_LOOK_UP_S)
            return self._end([slot for slot in slots if slot.process is not None])
        finally:
            _kill(slots)

    def _tend(self, slot: _Slot) -> None:
        """Take note of a process that ended, and start one where it is time."""
        if slot.process is not None and (code := slot.process.poll()) is not None:
            self._ended(slot, code)
        if slot.process is None and not slot.is_done and self.clock() >= slot.start_at:
            slot.process = self.start()
            slot.started_at = self.clock()
            log.info("worker process %d of %d started", slot.number, self.size, extra=_of(slot))

    def _ended(self, slot: _Slot, code: int) -> None:
        if self.ends and code in {ExitCode.OK, ExitCode.CONFIGURATION}:
            # What the set-up forbids one of them it forbids the next one as well.
            slot.process, slot.is_done = None, True
            self.has_failed = self.has_failed or code != ExitCode.OK
            return
        now = self.clock()
        slot.failures = 1 if now - slot.started_at >= _PROVEN_S else slot.failures + 1
        pause_s = _BACKOFF.pause_s(slot.failures)
        log.error(
            "worker process %d of %d ended (%s); the next one starts in %s",
            slot.number,
            self.size,
            _reason(code),
            human_duration(pause_s),
            extra=_of(slot),
        )
        slot.process = None
        slot.start_at = now + pause_s

    def _end(self, slots: Sequence[_Slot]) -> bool:
        """Stop everybody, and wait; return whether nobody had to be killed."""
        for slot in slots:
            if slot.process is not None and slot.process.poll() is None:
                slot.process.terminate()
        give_up_at = self.clock() + self.shutdown_grace_s
        while running := [one for one in slots if one.process and one.process.poll() is None]:
            if self._stops > 1 or self.clock() > give_up_at:
                log.warning("killed %d worker processes that did not end in time", len(running))
                return False
            self.pause(_LOOK_UP_S)
        return True


def _kill(slots: Sequence[_Slot]) -> None:
    for slot in slots:
        if slot.process is not None and slot.process.poll() is None:
            slot.process.kill()
            slot.process.wait()


def _of(slot: _Slot) -> dict[str, object]:
    return {"pid": slot.process.pid if slot.process is not None else None}


def _reason(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
