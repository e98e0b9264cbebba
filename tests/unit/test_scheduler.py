"""Many conversations in one thread."""

from __future__ import annotations

import itertools
import logging
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from postroom.delivery import loop_guard, scheduler
from postroom.delivery.scheduler import Event, Scheduler, TaskCondition, new_event, run_in_thread
from postroom.smtp.readiness import wait_ready
from tests.clock import Clock
from tests.services.waiting import wait_for

IN, OUT = select.POLLIN, select.POLLOUT
WAIT_S = 20.0

_numbers = itertools.count()


class Run:
    """Tasks of one scheduler, and a way to wait for their end."""

    def __init__(self, *, debug: bool = False) -> None:
        # A name of its own: the thread of the test before may be ending still.
        self.name = f"scheduler-{next(_numbers)}"
        self.scheduler = Scheduler(self.name, debug=debug)
        self.said: list[object] = []
        self._ended: list[threading.Event] = []

    def __call__(self, task: Callable[[], None]) -> None:
        ended = threading.Event()

        def run() -> None:
            try:
                task()
            finally:
                ended.set()

        self.scheduler.spawn(run)
        self._ended.append(ended)

    def wait(self) -> list[object]:
        assert all(ended.wait(WAIT_S) for ended in self._ended)
        return self.said

    def threads(self) -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one.name == self.name]

    def end(self) -> None:
        self.wait()
        for thread in self.threads():
            thread.join(WAIT_S)
        assert self.threads() == []


@pytest.fixture
def run() -> Iterator[Run]:
    run = Run()
    yield run
    run.end()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_tasks_take_turns_in_one_thread(
    run: Run, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair

    def ask() -> None:
        theirs.send(b"?")
        run.said.append(wait_ready(theirs.fileno(), IN, WAIT_S))
        run.said.append((theirs.recv(1), threading.get_ident()))

    def answer() -> None:
        assert wait_ready(ours.fileno(), IN, WAIT_S)
        ours.send(ours.recv(1) + b"!")
        run.said.append(threading.get_ident())

    run(ask)
    run(answer)
    thread, was_ready, (received, other) = run.wait()  # type: ignore[misc]
    assert (was_ready, received, other) == (True, b"?", thread)


def test_a_wait_that_takes_too_long_says_so_and_holds_nobody_up(
    run: Run, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    theirs.send(b"x")

    def late() -> None:
        run.said.append(wait_ready(theirs.fileno(), IN, 0.05))

    def quick() -> None:
        run.said.append(wait_ready(ours.fileno(), IN, WAIT_S))

    run(late)
    run(quick)
    assert run.wait() == [True, False]


def test_a_socket_may_be_waited_for_again_and_for_something_else(
    run: Run, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair

    def task() -> None:
        for _ in range(3):
            run.said.append(wait_ready(ours.fileno(), OUT, WAIT_S))
            run.said.append(wait_ready(ours.fileno(), IN, 0.01))
            theirs.send(b"x")
            run.said.append(wait_ready(ours.fileno(), IN, WAIT_S))
            ours.recv(1)

    run(task)
    assert run.wait() == [True, False, True] * 3


def test_the_number_of_a_closed_socket_may_be_another_sockets(run: Run) -> None:
    def task() -> None:
        for _ in range(3):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                theirs.send(b"x")
                run.said.append((ours.fileno(), wait_ready(ours.fileno(), IN, WAIT_S)))

    run(task)
    assert [is_ready for _, is_ready in run.wait()] == [True] * 3  # type: ignore[misc]
    assert len({number for number, _ in run.said}) == 1  # type: ignore[misc]


def test_a_socket_that_is_cut_ends_the_wait(
    run: Run, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, _ = pair
    waits = threading.Event()

    def task() -> None:
        waits.set()
        run.said.append((wait_ready(ours.fileno(), IN, WAIT_S), ours.recv(1)))

    run(task)
    assert waits.wait(WAIT_S)
    ours.shutdown(socket.SHUT_RDWR)
    assert run.wait() == [(True, b"")]


def test_a_thread_waits_for_a_socket_by_itself(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    assert not wait_ready(ours.fileno(), IN, 0.01)
    theirs.send(b"x")
    assert wait_ready(ours.fileno(), IN, WAIT_S)


def test_another_thread_sets_an_event(run: Run) -> None:
    events: list[Event] = []
    is_made = threading.Event()

    def task() -> None:
        one = new_event()
        events.append(one)
        is_made.set()
        run.said.append(one.wait(WAIT_S))

    run(task)
    assert is_made.wait(WAIT_S)
    events[0].set()
    assert run.wait() == [True]


def test_events_set_by_many_threads_at_once_wake_everybody(run: Run) -> None:
    def task() -> None:
        for _ in range(50):
            event = new_event()
            threading.Thread(target=event.set).start()
            run.said.append(event.wait(WAIT_S))

    for _ in range(8):
        run(task)
    assert run.wait() == [True] * 400


def test_an_event_that_comes_too_late_wakes_nobody_from_another_wait(run: Run) -> None:
    def task() -> None:
        late, other = new_event(), new_event()
        run.said.append(late.wait(0.01))
        late.set()
        run.said.append(other.wait(0.05))

    run(task)
    assert run.wait() == [False, False]


def test_an_event_may_be_set_when_all_tasks_have_ended(run: Run) -> None:
    events: list[Event] = []
    run(lambda: events.append(new_event()))
    run.end()
    events[0].set()
    assert events[0].wait(0)


def test_what_takes_long_is_done_aside(run: Run) -> None:
    go_on = threading.Event()

    def slow() -> None:
        run.said.append(run_in_thread(lambda: go_on.wait(WAIT_S)))

    def quick() -> None:
        run.said.append("quick")
        go_on.set()

    run(slow)
    run(quick)
    assert run.wait() == ["quick", True]


@pytest.mark.parametrize(
    ("raised", "met"), [(ValueError("no"), ValueError), (SystemExit("no"), RuntimeError)]
)
def test_a_failure_aside_is_raised_where_it_was_asked_for(
    run: Run, raised: BaseException, met: type[Exception]
) -> None:
    def fail() -> None:
        raise raised

    def task() -> None:
        with pytest.raises(met, match="no"):
            run_in_thread(fail)
        run.said.append("caught")

    run(task)
    assert run.wait() == ["caught"]


def refuse_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


def test_where_no_thread_can_be_started_the_next_spawn_tries_again(run: Run) -> None:
    with pytest.MonkeyPatch.context() as patched:
        refuse_threads(patched)
        with pytest.raises(RuntimeError, match="can't start"):
            run(lambda: run.said.append("never"))
    run(lambda: run.said.append("ran"))
    assert run.wait() == ["ran"]


def test_where_no_loop_can_be_made_the_next_spawn_tries_again(run: Run) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scheduler, "_new_hub", fail)
        with pytest.raises(OSError, match="Too many"):
            run(lambda: run.said.append("never"))
    run(lambda: run.said.append("ran"))
    assert run.wait() == ["ran"]


def test_where_no_thread_can_be_started_aside_the_task_is_told(run: Run) -> None:
    is_ready, refused = threading.Event(), threading.Event()

    def task() -> None:
        is_ready.set()
        run_in_thread(lambda: refused.wait(WAIT_S))
        with pytest.raises(RuntimeError, match="can't start"):
            run_in_thread(lambda: None)
        run.said.append("told")

    run(task)
    assert is_ready.wait(WAIT_S)
    wait_for(lambda: any(t.name == "postroom-aside" for t in threading.enumerate()), "the thread")
    with pytest.MonkeyPatch.context() as patched:
        refuse_threads(patched)
        refused.set()
        assert run.wait() == ["told"]


@pytest.mark.parametrize("raised", [ValueError("of our own making"), SystemExit("of our own")])
def test_a_task_that_fails_does_not_end_the_others(
    run: Run, caplog: pytest.LogCaptureFixture, raised: BaseException
) -> None:
    failed = threading.Event()

    def fail() -> None:
        raise raised

    def go_on() -> None:
        run.said.append(run_in_thread(lambda: failed.wait(WAIT_S)))

    with caplog.at_level(logging.ERROR):
        run(go_on)
        run(fail)
        wait_for(lambda: "of our own" in caplog.text, "the failure to be logged")
        failed.set()
        assert run.wait() == [True]


def test_the_thread_ends_with_its_last_task_and_begins_again_with_the_next(run: Run) -> None:
    for _ in range(3):
        run(lambda: run.said.append(len(run.threads())))
        run.end()
    run(lambda: run.said.append(len(run.threads())))
    assert run.wait() == [1, 1, 1, 1]


def test_what_is_spawned_while_the_last_task_ends_runs(run: Run) -> None:
    for number in range(200):
        run(lambda number=number: run.said.append(number))  # type: ignore[misc]
        run.wait()
    assert run.said == list(range(200))


def test_many_schedulers_work_beside_each_other_and_leave_no_descriptor_open() -> None:
    before = descriptors()
    runs = [Run() for _ in range(10)]
    meet = threading.Barrier(len(runs), timeout=WAIT_S)
    for run in runs:
        run(lambda run=run: run.said.append(run_in_thread(meet.wait) >= 0))  # type: ignore[misc]
    assert [run.wait() for run in runs] == [[True]] * len(runs)
    for run in runs:
        run.end()
    assert descriptors() <= before


def descriptors() -> int:
    """Return how many descriptors are open: the lowest free one tells, where all below are."""
    with socket.socket() as one:
        return one.fileno()


def test_no_signal_handler_is_changed(run: Run) -> None:
    every = [number for number in signal.valid_signals() if number not in {9, 19}]
    before = [signal.getsignal(number) for number in every]
    run(lambda: run.said.append(new_event().wait(0.01)))
    run.end()
    assert [signal.getsignal(number) for number in every] == before


@pytest.mark.parametrize("is_task", [True, False], ids=["tasks", "threads"])
def test_a_condition_wakes_everybody(run: Run, *, is_task: bool) -> None:
    lock = threading.Lock()
    changed = TaskCondition(lock)
    holds: list[bool] = []
    waits: list[bool] = []

    def wait() -> None:
        with lock:
            waits.append(True)
            changed.wait_for(lambda: holds, WAIT_S)
            run.said.append(lock.locked())

    for _ in range(3):
        if is_task:
            run(wait)
        else:
            threading.Thread(target=wait).start()
    wait_for(lambda: len(waits) == 3, "all to wait")
    with lock:
        holds.append(True)
        changed.notify_all()
    wait_for(lambda: len(run.said) == 3, "all to go on")
    assert run.said == [True] * 3


def test_a_condition_wakes_the_one_that_has_waited_longest(run: Run) -> None:
    lock = threading.Lock()
    changed = TaskCondition(lock)
    waits: list[int] = []

    def wait(number: int) -> None:
        with lock:
            waits.append(number)
            changed.wait(4.0)
            run.said.append(number)

    for number in range(3):
        run(lambda number=number: wait(number))  # type: ignore[misc]
        wait_for(lambda: len(waits) == number + 1, "it to wait")  # noqa: B023
    for number in range(3):
        with lock:
            changed.notify()
        wait_for(lambda: len(run.said) == number + 1, "it to go on")  # noqa: B023
    assert run.said == [0, 1, 2]


def test_a_condition_is_not_waited_for_longer_than_asked(run: Run) -> None:
    lock = threading.Lock()
    changed = TaskCondition(lock)

    def wait() -> None:
        with lock:
            changed.wait_for(lambda: False, 0.02)
            changed.notify_all()  # nobody waits any more
            run.said.append("on")

    run(wait)
    assert run.wait() == ["on"]


def test_a_machine_that_was_suspended_ends_a_wait_that_is_over_by_then(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "LOOK_UP_S", 0.01)
    clock = Clock()
    lock = threading.Lock()
    changed = TaskCondition(lock, clock=clock)
    waits = threading.Event()

    def wait() -> None:
        with lock:
            waits.set()
            changed.wait_for(lambda: False, 3600.0)
            run.said.append("on")

    run(wait)
    assert waits.wait(WAIT_S)
    clock.now += 3600.0
    assert run.wait() == ["on"]


def busy(until: threading.Event) -> None:
    """Run on, without waiting for anything that the loop knows of."""
    until.wait(WAIT_S)


def test_what_holds_the_loop_up_is_named_once_in_debug_mode(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Run(debug=True)
    two = [threading.Event(), threading.Event()]

    def task() -> None:
        for until in two:
            busy(until)
            new_event().wait(0.001)

    with caplog.at_level(logging.WARNING, "postroom.delivery"):
        run(task)
        wait_for(lambda: "held up" in caplog.text, "the place to be named")
        two[0].set()
        threading.Timer(4 * loop_guard._LONGEST_RUN_S, two[1].set).start()
        run.end()
    # On a machine with other work something else may have been held up, too.
    (record,) = [one for one in caplog.records if "in busy" in one.getMessage()]
    assert (record.name, record.levelno) == ("postroom.delivery", logging.WARNING)
    assert "in task" in record.getMessage()


def test_a_task_that_only_waits_is_not_named(
    caplog: pytest.LogCaptureFixture,
    pair: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Longer than a machine with other work keeps a thread from running.
    monkeypatch.setattr(loop_guard, "_LONGEST_RUN_S", 0.3)
    run = Run(debug=True)
    with caplog.at_level(logging.WARNING, "postroom.delivery"):
        run(lambda: run.said.append(wait_ready(pair[0].fileno(), IN, 0.6)))
        run.end()
    assert caplog.records == []


def test_nothing_watches_the_loop_where_nobody_asked(run: Run) -> None:
    names: list[str] = []
    run(lambda: names.extend(one.name for one in threading.enumerate()))
    run.wait()
    assert "postroom-loop-guard" not in names


def test_a_wait_takes_as_long_as_it_should(run: Run) -> None:
    def task() -> None:
        began = time.monotonic()
        new_event().wait(0.1)
        run.said.append(0.09 < time.monotonic() - began < 10)

    run(task)
    assert run.wait() == [True]
