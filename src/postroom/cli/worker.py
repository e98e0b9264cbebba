"""``worker``: the process that empties the outbox, or several of them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from postroom import __version__
from postroom.cli import logs
from postroom.cli.context import CommandContext, open_outbox
from postroom.cli.errors import CommandError, ExitCode
from postroom.cli.supervisor import Supervisor, child_launcher
from postroom.config.settings import LogFormat, LogLevel
from postroom.log import Log
from postroom.storage.database_url import shown_url

log = Log("postroom.worker")

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: A process that cuts what is on the wire after its grace still records the outcomes.
_BEYOND_GRACE_S = 15.0


def worker(
    drain: Annotated[bool, typer.Option("--drain", help="Stop when nothing is due now.")] = False,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="Stop when nothing waits, retries included.")
    ] = False,
    processes: Annotated[int, typer.Option(min=1, max=256, help="Work in so many processes.")] = 1,
    connections: Annotated[
        int | None, typer.Option(min=1, help="Connections to each relay, of each process.")
    ] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="How to log.")] = None,
    log_level: Annotated[LogLevel | None, typer.Option(help="The least that is logged.")] = None,
) -> None:
    """Deliver what is due, until told to stop.

    SIGTERM and Ctrl-C finish what is on the wire and return the rest to the outbox. As many
    workers as you like may share one outbox.
    """
    if drain and until_empty:
        raise typer.BadParameter("expected --drain or --until-empty, got: both")
    with open_outbox(
        connections_per_relay=connections, log_format=log_format, log_level=log_level
    ) as opened:
        logs.configure(opened.settings.log_format, opened.settings.log_level)
        if processes == 1:
            _work(opened, drain=drain, until_empty=until_empty)
        else:
            options = {"connections": connections, "log-format": log_format, "log-level": log_level}
            stops = [*["--drain"] * drain, *["--until-empty"] * until_empty]
            given = [f"--{name}={value}" for name, value in options.items() if value is not None]
            _supervise(opened, processes, [*stops, *given])


def _work(opened: CommandContext, *, drain: bool, until_empty: bool) -> None:
    at_work = opened.outbox.worker()
    with _stopped_by_signals(at_work.stop):
        where = shown_url(opened.engine.url)
        log.info("worker started", extra={"version": __version__, "database": where})
        if drain:
            at_work.drain()
        else:
            at_work.run(until_empty=until_empty)
        log.info("worker stopped")


def _supervise(opened: CommandContext, processes: int, options: list[str]) -> None:
    """Let ``processes`` of our own kind work, each with ``options``."""
    opened.outbox.worker()  # what is missing is said here, once, and not by each of them
    opened.outbox.close()
    with child_launcher(["worker", *options]) as start:
        supervisor = Supervisor(
            start=start,
            size=processes,
            ends="--drain" in options or "--until-empty" in options,
            shutdown_grace_s=opened.settings.shutdown_grace_s + _BEYOND_GRACE_S,
        )
        with _stopped_by_signals(supervisor.stop, times=2):
            is_orderly = supervisor.run()
    if supervisor.has_failed:
        raise CommandError(
            "the worker processes could not go on: what they said above has the reason",
            ExitCode.CONFIGURATION,
        )
    if not is_orderly:
        raise CommandError(
            "stopped before every worker process had ended: what was on the wire is tried again "
            "when the leases are over",
            ExitCode.FAILED,
        )


@contextmanager
def _stopped_by_signals(stop: Callable[[], None], *, times: int = 1) -> Iterator[None]:
    """Let the first signals call ``stop``, and what comes after ``times`` end us at once."""
    left = times

    def count(number: int, frame: FrameType | None) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            restore()
        stop()

    before = {kind: signal.signal(kind, count) for kind in _STOP_SIGNALS}

    def restore() -> None:
        for kind, former in before.items():
            signal.signal(kind, former)

    try:
        yield
    finally:
        restore()
