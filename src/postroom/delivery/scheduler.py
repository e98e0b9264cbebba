"""Many conversations in one thread, each written as if it had a thread of its own.

A conversation with a relay waits most of the time. With a thread for each, every wait is a thread
put to sleep, woken, and queued for the interpreter: with sixteen of them a third of what a mail
costs. So each is a task (a greenlet) on the event loop of gevent. Nothing is monkey-patched: the
loop has a thread of its own, and waits for sockets that stay ours.

`new_event`, `run_in_thread` and `TaskCondition` may be used from anywhere; outside a task they do
what a thread would. Nothing that blocks may run in a task but through `run_in_thread`.
"""

from __future__ import annotations

import atexit
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from typing import Any, Protocol, TypeVar, cast

import gevent
from gevent.hub import Hub
from gevent.monkey import is_module_patched
from greenlet import GreenletExit, getcurrent, greenlet

from postroom.clock import monotonic
from postroom.delivery.loop_guard import guarded
from postroom.errors import named
from postroom.log import Log
from postroom.smtp.readiness import CooperativeTask

T = TypeVar("T")

log = Log("postroom.delivery")

#: The longest wait without a look at the clock: timers stand still while a machine is suspended.
LOOK_UP_S = 5.0
#: How long the interpreter's end waits for a loop to let go of its thread.
_PARK_S = 1.0
#: What libev calls the events that a socket is waited for (ev.h).
_LIBEV = {select.POLLIN: 1, select.POLLOUT: 2}


class Event(Protocol):
    """As `threading.Event`: set from any thread, waited for by who made it."""

    def set(self) -> None:
        """Wake who waits."""
        ...

    def wait(self, timeout: float | None = None, /) -> bool:
        """Wait until it is set, ``timeout`` seconds at the most; return whether it is."""
        ...


def new_event() -> Event:
    """Return an event for the task, or the thread, that asks for it."""
    current = getcurrent()
    return _TaskEvent(current) if isinstance(current, _Task) else threading.Event()


def run_in_thread(call: Callable[[], T]) -> T:
    """Return what ``call`` returns; from a task it runs in a thread, so that other tasks go on.

    Raises:
        RuntimeError: no thread can be started, or ``call`` wanted to end its thread.
        Exception: whatever ``call`` raised.
    """
    if not isinstance(getcurrent(), _Task):
        return call()
    done = new_event()
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)
        except BaseException as error:
            # A `SystemExit`, say, of an application's callable: not to end all conversations.
            future.set_exception(RuntimeError(named(error)))
        finally:
            done.set()

    threading.Thread(target=run, name="postroom-aside", daemon=True).start()
    done.wait()
    return future.result()


class TaskCondition:
    """As `threading.Condition`, for threads and for tasks.

    Every method is called with ``lock`` held; waiting lets go of it meanwhile.

    Args:
        lock: guards what the condition is about. It is held for moments only.
        clock: monotonic, in seconds, and running on while the machine is suspended.
    """

    def __init__(self, lock: threading.Lock, *, clock: Callable[[], float] = monotonic) -> None:
        self._lock = lock
        self._clock = clock
        self._waiting: deque[Event] = deque()

    def wait(self, timeout_s: float) -> None:
        """Wait until notified, ``timeout_s`` or `LOOK_UP_S` at the most: ask again why you wait."""
        notified = new_event()
        self._waiting.append(notified)
        self._lock.release()
        try:
            notified.wait(min(timeout_s, LOOK_UP_S))
        finally:
            self._lock.acquire()
            if notified in self._waiting:
                self._waiting.remove(notified)

    def wait_for(self, holds: Callable[[], object], timeout_s: float) -> None:
        """Wait until ``holds()`` is true, ``timeout_s`` at the most."""
        until = self._clock() + timeout_s
        while not holds() and (remaining_s := until - self._clock()) > 0:
            self.wait(remaining_s)

    def notify(self) -> None:
        """Wake the one that has waited longest."""
        if self._waiting:
            self._waiting.popleft().set()

    def notify_all(self) -> None:
        """Wake all that wait."""
        while self._waiting:
            self._waiting.popleft().set()


class Scheduler:
    """Runs tasks in one thread, which begins with the first and ends with the last of them.

    Args:
        name: the thread's name.
        debug: whether to log what holds the loop up for long; always so in Python's
            development mode (``python -X dev``).
    """

    def __init__(self, name: str, *, debug: bool = False) -> None:
        self._name = name
        self._debug = debug or sys.flags.dev_mode
        self._lock = threading.Lock()
        self._loop: _Loop | None = None
        register_exit_hook()

    def spawn(self, run: Callable[[], None]) -> None:
        """Run ``run`` as a task of its own. Safe from any thread.

        Raises:
            RuntimeError, OSError, SystemError: no thread or no descriptor is to be had; the next
                call tries again.
        """
        with self._lock:
            if self._loop is None:
                self._loop = self._started()
            self._loop.spawn(run)

    def _started(self) -> _Loop:
        loop = _Loop(self._task_ended)
        run = guarded(loop.run) if self._debug else loop.run
        threading.Thread(target=run, name=self._name, daemon=True).start()
        loop.wait_until_it_runs()
        return loop

    def _task_ended(self, loop: _Loop) -> None:
        with self._lock:
            if loop.tasks == 1:
                self._loop = None
                loop.end()
            loop.tasks -= 1


class _Loop:
    """gevent's loop, in the thread of a scheduler."""

    def __init__(self, task_ended: Callable[[_Loop], None]) -> None:
        self.tasks = 0
        self._task_ended = task_ended
        self._hub: Future[Hub] = Future()
        #: The thread, and what runs in it where neither the loop nor a task does.
        self._native: threading.Thread
        self._thread: greenlet
        self._is_parked = threading.Event()

    # -- called from other threads ------------------------------------------------------------

    def wait_until_it_runs(self) -> None:
        """Wait for the thread; what keeps it from running is raised here."""
        self._hub.result()

    def spawn(self, run: Callable[[], None]) -> None:
        """Have ``run`` begun as a task."""
        self.tasks += 1
        self._hub.result().loop.run_callback_threadsafe(self._begin, run)

    # -- the thread ---------------------------------------------------------------------------

    def run(self) -> None:
        """Run until the last task has ended."""
        self._native, self._thread = threading.current_thread(), getcurrent()
        try:
            hub = _new_hub()
            # While it is active the loop waits, though no task may be waiting for anything.
            active = hub.loop.async_()
            active.start(lambda: None)
        except BaseException as error:
            self._hub.set_exception(error)
            return
        if hub.parent is not self._thread:  # the application's, as is this thread
            self._hub.set_result(hub)
            hub.switch()
            active.close()
            return
        _remember(self)
        self._hub.set_result(hub)
        parks = hub.switch()
        if parks:
            self._is_parked.set()
            threading.Event().wait()
        active.close()
        hub.destroy(destroy_loop=True)

    @property
    def is_alive(self) -> bool:
        """Return whether the thread has not ended yet, and is this process's own after a fork."""
        return self._native.is_alive()

    def park(self) -> None:
        """Have the thread stand still with all its tasks, or wait for its end where that is near.

        While the interpreter ends, a thread that has run greenlets must not: greenlet takes what
        is left of them apart then, in an interpreter that is half gone, and the process crashes.
        """
        loop = self._hub.result().loop
        if loop is not None:
            with suppress(ValueError):  # destroyed this moment: it ends by itself
                loop.run_callback_threadsafe(self._thread.switch, True)
        until = monotonic() + _PARK_S
        while self.is_alive and not self._is_parked.wait(0.01) and monotonic() < until:
            pass

    def end(self) -> None:
        """Let the thread end, once the task that calls this has."""
        self._hub.result().loop.run_callback(self._thread.switch)

    def _begin(self, run: Callable[[], None]) -> None:
        _Task(lambda: self._run_task(run), self._hub.result()).switch()

    def _run_task(self, run: Callable[[], None]) -> None:
        """Run one task, so that its failure is its own and not that of all tasks."""
        try:
            run()
        except GreenletExit:
            raise
        except BaseException:
            log.exception("a sender ended by an error of our own")
        finally:
            self._task_ended(self)


#: The loops whose threads may not have ended yet.
_loops: set[_Loop] = set()


def _remember(loop: _Loop) -> None:
    for ended in [one for one in list(_loops) if not one.is_alive]:
        _loops.discard(ended)
    _loops.add(loop)


def _park_all() -> None:
    for loop in list(_loops):
        if loop.is_alive:
            loop.park()


@cache
def register_exit_hook() -> None:
    """Park the threads of all loops when the process ends.

    Call it before you register what ends workers in order: that has to run first.
    """
    atexit.register(_park_all)


def _new_hub() -> Hub:
    """Return a hub for this thread: one of its own, but in an application that lives on gevent.

    There a thread is a task of the application's hub already, and so are ours. Otherwise
    ``poll()``: to wait for one more socket costs no system call, as ``epoll`` does.
    """
    if is_module_patched("threading"):
        return gevent.get_hub()
    # Their stubs leave out the arguments.
    new_loop = cast(Callable[..., Any], gevent.config.loop)
    new_hub = cast(Callable[..., Hub], Hub)
    return new_hub(new_loop("poll", default=False))


class _Task(CooperativeTask):
    """One call that a scheduler runs."""

    def __init__(self, run: Callable[[], None], hub: Hub) -> None:
        super().__init__(run, hub)
        self.hub = hub

    def wait_ready(self, descriptor: int, events: int, timeout_s: float) -> bool:
        ready = self.hub.loop.io(descriptor, _LIBEV[events])
        ready.start(self.switch, True)
        try:
            return self.wait(timeout_s)
        finally:
            ready.close()

    def wait(self, timeout_s: float | None) -> bool:
        """Let other tasks run until somebody switches here; return whether that was in time."""
        if timeout_s is None:
            return bool(self.hub.switch())
        late = self.hub.loop.timer(timeout_s)
        late.start(self.switch, False)
        try:
            return bool(self.hub.switch())
        finally:
            late.close()


class _TaskEvent:
    """Set from any thread, waited for by one task."""

    def __init__(self, task: _Task) -> None:
        self._task = task
        self._is_set = False
        self._is_waiting = False

    def set(self) -> None:
        self._is_set = True
        loop = self._task.hub.loop
        if loop is not None:
            with suppress(ValueError):  # destroyed this moment: every task has ended
                loop.run_callback_threadsafe(self._wake)

    def wait(self, timeout: float | None = None, /) -> bool:
        self._is_waiting = True  # before looking: whoever sets it from now on wakes us
        try:
            if not self._is_set:
                self._task.wait(timeout)
        finally:
            self._is_waiting = False
        return self._is_set

    def _wake(self) -> None:
        if self._is_waiting:
            self._task.switch(True)
