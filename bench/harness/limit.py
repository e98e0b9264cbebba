"""The limit: Postfix's ``smtp-source``, written in C, which stores nothing and waits for nobody."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.harness.contest import Absent, Contender, Figures
from tests.services.postfix import SmtpSink
from tests.services.programs import find

NAME = "smtp-source"


@contextmanager
def sink(*options: str) -> Iterator[int]:
    """Yield the port of a fresh ``smtp-sink``.

    It runs without ``-c``: the counter writes to the terminal at every mail. One process of it
    takes half as much again as ``smtp-source`` gives, so that it holds up nobody.
    """
    if find("smtp-sink") is None:
        raise Absent("smtp-sink is missing; run: apt-get install postfix")
    server = SmtpSink(*options)
    try:
        yield server.port
    finally:
        server.remove()


def smtp_source(count: int, size_bytes: int, *, sessions: int = 10) -> Contender:
    """Return the yardstick: ``count`` mails of ``size_bytes`` over ``sessions`` connections."""

    def run() -> Figures:
        with sink() as port:
            elapsed_s = send(port, count, size_bytes, sessions)
        return {"msg/s": count / elapsed_s, "MB/s": count * size_bytes / elapsed_s / 1e6}

    options = f"-s {sessions} -d -l {size_bytes}"
    return Contender(name=NAME, run=run, note=f"`smtp-source {options}` into `smtp-sink`")


def send(port: int, count: int, size_bytes: int, sessions: int = 10) -> float:
    """Let ``smtp-source`` send; return how many seconds it took."""
    program = find("smtp-source")
    if program is None:
        raise Absent("smtp-source is missing; run: apt-get install postfix")
    amount = ("-s", str(min(sessions, count)), "-d", "-m", str(count), "-l", str(size_bytes))
    started = time.perf_counter()
    subprocess.run([program, *amount, f"127.0.0.1:{port}"], check=True, capture_output=True)
    return time.perf_counter() - started
