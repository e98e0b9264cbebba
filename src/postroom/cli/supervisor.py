"""Several worker processes on one outbox: started, watched, restarted, and stopped together.

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
from postroom.log import Log

log = Log("postroom.worker")

_POLL_S = 0.1
_RESTART = Backoff(first_s=1.0, longest_s=30.0)
#: A process that has run this long counts as started: its failures are forgotten.
_STABLE_AFTER_S = 60.0


class Process(Protocol):
    """What a supervisor needs of a child process; `subprocess.Popen` is one."""

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
    """Yield a function that starts ``postroom`` in a child, which ends when this process does.

    The child notices by the end of its standard input, whose other end only we hold.

    Args:
        arguments: The child's command line, without the program's name.
    """
    read_end, write_end = os.pipe()

    def start() -> Process:
        return subprocess.Popen(  # noqa: S603  our own interpreter, with options of our own
            [sys.executable, "-m", "postroom.cli.child", *arguments],
            stdin=read_end,
            # Ctrl-C at the terminal reaches the parent only, which then stops its children.
            process_group=0,
        )

    try:
        yield start
    finally:
        os.close(write_end)
        os.close(read_end)


@dataclass(slots=True, kw_only=True)
class _Slot:
    """One of the supervised processes, or the time when the next one starts in its place."""

    number: int
    process: Process | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    failures: int = 0
    is_done: bool = False


@dataclass(kw_only=True)
class Supervisor:
    """Keeps a number of processes running.

    Attributes:
        start: Starts a process.
        size: How many run at a time.
        ends: A process that exits with 0, or because the set-up is wrong, is not restarted.
        shutdown_grace_s: Seconds to wait after `stop` before processes are killed.
        clock: A monotonic clock.
        sleep: Waits for a number of seconds.
        has_failed: True if a process exited because the set-up is wrong.
    """

    start: Callable[[], Process]
    size: int
    ends: bool
    shutdown_grace_s: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    has_failed: bool = field(default=False, init=False)
    _stops: int = field(default=0, init=False)

    def stop(self) -> None:
        """Stop all gracefully; the second call kills them. May be called from a signal handler."""
        self._stops += 1

    def run(self) -> bool:
        """Run until stopped, or until every process has ended for good.

        Returns whether all ended by themselves; otherwise some were killed.
        """
        slots = [_Slot(number=number + 1) for number in range(self.size)]
        try:
            while not self._stops and not all(slot.is_done for slot in slots):
                for slot in slots:
                    self._check_slot(slot)
                self.sleep(_POLL_S)
            return self._stop_all([slot for slot in slots if slot.process is not None])
        finally:
            _kill(slots)

    def _check_slot(self, slot: _Slot) -> None:
        """Handle a process that ended, and start one when it is time."""
        if slot.process is not None and (code := slot.process.poll()) is not None:
            self._on_exit(slot, code)
        if slot.process is None and not slot.is_done and self.clock() >= slot.start_at:
            slot.process = self.start()
            slot.started_at = self.clock()
            log.info(
                "worker process %d of %d started", slot.number, self.size, extra=_log_fields(slot)
            )

    def _on_exit(self, slot: _Slot, code: int) -> None:
        if self.ends and code in {ExitCode.OK, ExitCode.CONFIGURATION}:
            # A wrong set-up would stop the next process as well.
            slot.process, slot.is_done = None, True
            self.has_failed = self.has_failed or code != ExitCode.OK
            return
        now = self.clock()
        slot.failures = 1 if now - slot.started_at >= _STABLE_AFTER_S else slot.failures + 1
        delay_s = _RESTART.pause_s(slot.failures)
        log.error(
            "worker process %d of %d ended (%s); the next one starts in %g s",
            slot.number,
            self.size,
            _reason(code),
            delay_s,
            extra=_log_fields(slot),
        )
        slot.process = None
        slot.start_at = now + delay_s

    def _stop_all(self, slots: Sequence[_Slot]) -> bool:
        """Stop every process and wait; return whether none had to be killed."""
        for slot in slots:
            if slot.process is not None and slot.process.poll() is None:
                slot.process.terminate()
        give_up_at = self.clock() + self.shutdown_grace_s
        while running := [one for one in slots if one.process and one.process.poll() is None]:
            if self._stops > 1 or self.clock() > give_up_at:
                log.warning("killed %d worker processes that did not end in time", len(running))
                return False
            self.sleep(_POLL_S)
        return True


def _kill(slots: Sequence[_Slot]) -> None:
    for slot in slots:
        if slot.process is not None and slot.process.poll() is None:
            slot.process.kill()
            slot.process.wait()


def _log_fields(slot: _Slot) -> dict[str, object]:
    return {"pid": slot.process.pid if slot.process is not None else None}


def _reason(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
