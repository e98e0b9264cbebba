"""Many conversations in one thread."""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from postroom.delivery.condition import Condition
from postroom.delivery.hub import Hub, flag, in_thread
from postroom.smtp.pause import wait_for as wait_for_socket
from tests.services.waiting import wait_for

IN = select.POLLIN
WAIT_S = 5.0


class Run:
    """Strands of one hub, and a way to wait for their end."""

    def __init__(self) -> None:
        self.hub = Hub("hub-under-test")
        self.said: list[object] = []
        self._ended: list[threading.Event] = []

    def __call__(self, strand: Callable[[], None]) -> None:
        ended = threading.Event()
        self._ended.append(ended)

        def run() -> None:
            try:
                strand()
            finally:
                ended.set()

        self.hub.spawn(run)

    def wait(self) -> list[object]:
        assert all(ended.wait(WAIT_S) for ended in self._ended)
        return self.said


@pytest.fixture
def run() -> Run:
    return Run()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "hub-under-test"]


def test_strands_take_turns_in_one_thread(
    run: Run, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair

    def ask() -> None:
        theirs.send(b"?")
        run.said.append(wait_for_socket(theirs.fileno(), IN, WAIT_S))
        run.said.append((theirs.recv(1), threading.get_ident()))

    def answer() -> None:
        assert wait_for_socket(ours.fileno(), IN, WAIT_S)
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
        run.said.append(wait_for_socket(theirs.fileno(), IN, 0.05))

    def quick() -> None:
        run.said.append(wait_for_socket(ours.fileno(), IN, WAIT_S))

    run(late)
    run(quick)
    assert run.wait() == [True, False]


def test_a_thread_waits_for_a_socket_by_itself(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    assert not wait_for_socket(ours.fileno(), IN, 0.01)
    theirs.send(b"x")
    assert wait_for_socket(ours.fileno(), IN, WAIT_S)


def test_another_thread_raises_a_flag(run: Run) -> None:
    raised = []
    is_made = threading.Event()

    def strand() -> None:
        one = flag()
        raised.append(one)
        is_made.set()
        run.said.append(one.wait(WAIT_S))

    run(strand)
    assert is_made.wait(WAIT_S)
    raised[0].set()
    assert run.wait() == [True]


def test_a_flag_that_comes_too_late_wakes_nobody_from_another_wait(run: Run) -> None:
    def strand() -> None:
        late, other = flag(), flag()
        run.said.append(late.wait(0.01))
        late.set()
        run.said.append(other.wait(0.05))

    run(strand)
    assert run.wait() == [False, False]


def test_what_takes_long_is_done_aside(run: Run) -> None:
    go_on = threading.Event()

    def slow() -> None:
        run.said.append(in_thread(lambda: go_on.wait(WAIT_S)))

    def quick() -> None:
        run.said.append("quick")
        go_on.set()

    run(slow)
    run(quick)
    assert run.wait() == ["quick", True]


def test_a_failure_aside_is_raised_where_it_was_asked_for(run: Run) -> None:
    def fail() -> None:
        raise ValueError("no")

    def strand() -> None:
        with pytest.raises(ValueError, match="no"):
            in_thread(fail)
        run.said.append("caught")

    run(strand)
    assert run.wait() == ["caught"]


def test_a_strand_that_fails_does_not_end_the_others(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("of our own making")

    def go_on() -> None:
        run.said.append(flag().wait(0.05))

    with caplog.at_level(logging.ERROR):
        run(go_on)
        run(fail)
        assert run.wait() == [False]
        wait_for(lambda: "of our own making" in caplog.text, "the failure to be logged")


def test_the_thread_ends_with_its_last_strand_and_begins_again_with_the_next(run: Run) -> None:
    run(lambda: run.said.append(len(threads())))
    run.wait()
    for thread in threads():
        thread.join(WAIT_S)
    assert threads() == []
    run(lambda: run.said.append(len(threads())))
    assert run.wait() == [1, 1]


@pytest.mark.parametrize("is_strand", [True, False], ids=["strands", "threads"])
def test_a_condition_lets_everybody_go_on(run: Run, *, is_strand: bool) -> None:
    lock = threading.Lock()
    changed = Condition(lock)

    def wait() -> None:
        with lock:
            changed.wait(WAIT_S)
            run.said.append(lock.locked())

    if is_strand:
        for _ in range(3):
            run(wait)
    else:
        for _ in range(3):
            threading.Thread(target=wait).start()
    until = time.monotonic() + WAIT_S
    while len(run.said) < 3 and time.monotonic() < until:
        with lock:
            changed.notify_all()
        time.sleep(0.01)
    assert run.said == [True] * 3


def test_a_condition_is_not_waited_for_longer_than_asked(run: Run) -> None:
    lock = threading.Lock()
    changed = Condition(lock)

    def wait() -> None:
        with lock:
            changed.wait_for(lambda: False, 0.02)
            changed.notify_all()  # nobody waits any more
            run.said.append("on")

    run(wait)
    assert run.wait() == ["on"]
