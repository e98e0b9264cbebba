"""A supervisor replaces what dies, ever more slowly, and stops all of its processes together."""

from __future__ import annotations

from collections.abc import Callable

from postroom.cli.supervisor import Supervisor


class Child:
    """A process that ends when the test says so, or when it is told to stop."""

    pid = 7

    def __init__(self, *, is_stubborn: bool = False) -> None:
        self.code: int | None = None
        self._is_stubborn = is_stubborn

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        if not self._is_stubborn:
            self.code = 0

    def kill(self) -> None:
        self.code = -9

    def wait(self) -> int:
        assert self.code is not None
        return self.code


class Setup:
    """Time, the children that were started, and when; ``watch`` is called as time passes."""

    def __init__(self, *, size: int = 2, ends: bool = False, is_stubborn: bool = False) -> None:
        self.now = 0.0
        self.children: list[Child] = []
        self.started_at: list[float] = []
        self.watch: Callable[[], None] = lambda: None
        self._is_stubborn = is_stubborn
        self.supervisor = Supervisor(
            start=self._start,
            size=size,
            ends=ends,
            shutdown_grace_s=5,
            clock=lambda: self.now,
            pause=self._pass_time,
        )

    def _start(self) -> Child:
        self.children.append(Child(is_stubborn=self._is_stubborn))
        self.started_at.append(self.now)
        return self.children[-1]

    def _pass_time(self, pause_s: float) -> None:
        self.now += pause_s
        self.watch()

    def stop_at(self, time_s: float) -> None:
        if self.now >= time_s:
            self.supervisor.stop()


def test_it_starts_as_many_as_it_should_and_stops_them_gently() -> None:
    setup = Setup(size=3)
    setup.watch = lambda: setup.stop_at(10)
    assert setup.supervisor.run()
    assert [child.code for child in setup.children] == [0, 0, 0]


def test_one_that_dies_is_replaced_and_the_others_are_left_alone() -> None:
    setup = Setup()

    def watch() -> None:
        if 5 <= setup.now < 5.1:
            setup.children[0].code = -9
        setup.stop_at(20)

    setup.watch = watch
    assert setup.supervisor.run()
    assert len(setup.children) == 3
    assert 6 <= setup.started_at[2] < 6.5


def test_one_that_keeps_dying_is_started_ever_more_seldom() -> None:
    setup = Setup(size=1)

    def watch() -> None:
        setup.children[-1].code = 1
        setup.stop_at(200)

    setup.watch = watch
    setup.supervisor.run()
    pauses = [
        round(later - earlier)
        for earlier, later in zip(setup.started_at, setup.started_at[1:], strict=False)
    ]
    assert pauses[:7] == [1, 2, 4, 8, 16, 30, 30]


def test_one_that_has_worked_for_long_is_replaced_soon_again() -> None:
    setup = Setup(size=1)
    ends_at = iter([1, 3, 100, float("inf")])
    end_at = next(ends_at)

    def watch() -> None:
        nonlocal end_at
        if setup.now >= end_at:
            setup.children[-1].code = 1
            end_at = next(ends_at)
        setup.stop_at(110)

    setup.watch = watch
    setup.supervisor.run()
    assert 101 <= setup.started_at[-1] < 102


def test_it_ends_when_all_have_done_their_part() -> None:
    setup = Setup(ends=True)

    def watch() -> None:
        for child in setup.children:
            child.code = 0

    setup.watch = watch
    assert setup.supervisor.run()
    assert len(setup.children) == 2


def test_one_that_dies_before_it_has_done_its_part_is_replaced() -> None:
    setup = Setup(size=1, ends=True)

    def watch() -> None:
        setup.children[-1].code = -9 if len(setup.children) == 1 else 0

    setup.watch = watch
    assert setup.supervisor.run()
    assert len(setup.children) == 2


def test_what_does_not_stop_in_time_is_killed() -> None:
    setup = Setup(is_stubborn=True)

    def watch() -> None:
        if 3 <= setup.now < 3.1:
            setup.supervisor.stop()

    setup.watch = watch
    assert not setup.supervisor.run()
    assert [child.code for child in setup.children] == [-9, -9]
    assert 8 <= setup.now < 9


def test_told_twice_it_does_not_wait() -> None:
    setup = Setup(is_stubborn=True)
    setup.watch = lambda: setup.stop_at(1)  # and again each time it looks
    assert not setup.supervisor.run()
    assert setup.now < 2
