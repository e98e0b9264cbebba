"""The senders' event loop in processes that fork, that end, or that live on gevent themselves."""

from __future__ import annotations

import subprocess
import sys

import pytest

_BEGIN = """
import os, sys, threading, warnings
from postroom.delivery.scheduler import Scheduler, new_event, run_in_thread

def works(scheduler):
    done = threading.Event()
    scheduler.spawn(lambda: (run_in_thread(lambda: None), new_event().wait(0.01), done.set()))
    return done.wait(20)
"""


def ran(script: str, *, options: tuple[str, ...] = ()) -> str:
    """Run ``script`` in a process of its own; return what it printed, and fail where it does."""
    ended = subprocess.run(
        [sys.executable, *options, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout.strip()


def test_a_forked_child_has_a_loop_of_its_own_while_the_parents_goes_on() -> None:
    script = f"""{_BEGIN}
warnings.simplefilter("ignore")  # of Python 3.12: a process with threads forks
ours = Scheduler("parent")
go_on = threading.Event()
ended = threading.Event()
ours.spawn(lambda: (run_in_thread(go_on.wait), ended.set()))
pid = os.fork()
if pid == 0:
    os._exit(0 if all(works(Scheduler("child")) for _ in range(3)) else 1)
_, status = os.waitpid(pid, 0)
go_on.set()
print(os.waitstatus_to_exitcode(status), ended.wait(20), works(ours))
"""
    assert ran(script) == "0 True True"


@pytest.mark.parametrize("times", range(3))
def test_a_process_ends_in_order_while_tasks_still_wait(times: int) -> None:
    script = f"""{_BEGIN}
import select, socket
from postroom.smtp.readiness import wait_ready
scheduler = Scheduler("loop")
one, other = socket.socketpair()
waits = threading.Barrier(2)
scheduler.spawn(lambda: (run_in_thread(waits.wait), wait_ready(one.fileno(), select.POLLIN, 3600)))
scheduler.spawn(lambda: new_event().wait())
waits.wait()
print("ends")
"""
    assert ran(script) == "ends"


@pytest.mark.parametrize("times", range(10))
def test_a_process_may_end_while_loops_come_and_go(times: int) -> None:
    script = f"""{_BEGIN}
ended = [threading.Event() for _ in range(30)]
for one in ended:
    Scheduler("loop").spawn(lambda one=one: (new_event().wait(0.02), one.set()))
ended[{times}].wait()
print("ends")
"""
    assert ran(script) == "ends"


def test_an_application_that_lives_on_gevent_is_not_held_up() -> None:
    script = f"""
from gevent import monkey
monkey.patch_all()
{_BEGIN}
import gevent
ticks = []
ticking = gevent.spawn(lambda: [ticks.append(gevent.sleep(0.01)) for _ in range(10)])
scheduler = Scheduler("loop")
done = threading.Event()
scheduler.spawn(lambda: (ticking.join(), done.set()))
print(done.wait(20), len(ticks), works(scheduler), works(Scheduler("another")))
"""
    assert ran(script) == "True 10 True True"


def test_an_application_without_gevent_is_not_patched() -> None:
    script = f"""{_BEGIN}
import signal, socket, time
from gevent import monkey
before = [signal.getsignal(number) for number in signal.valid_signals()]
assert works(Scheduler("loop"))
patched = [name for name in ("socket", "threading", "time", "ssl", "os", "signal")
           if monkey.is_module_patched(name)]
print(patched, before == [signal.getsignal(number) for number in signal.valid_signals()])
"""
    assert ran(script) == "[] True"
