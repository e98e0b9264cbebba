"""``worker``: the process that delivers what is in the outbox, or several of them."""

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
#: Time for a process to record its outcomes after the grace period has ended.
_BEYOND_GRACE_S = 15.0


def worker(
    drain: Annotated[bool, typer.Option("--drain", help="Stop when nothing is due now.")] = False,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="Stop when nothing waits, retries included.")
    ] = False,
    processes: Annotated[int, typer.Option(min=1, max=256, help="Number of processes.")] = 1,
    connections: Annotated[
        int | None, typer.Option(min=1, help="Connections of each process to each relay.")
    ] = None,
    log_format: Annotated[LogFormat | None, typer.Option(help="How to log.")] = None,
    log_level: Annotated[
        LogLevel | None, typer.Option(help="The lowest level that is logged.")
    ] = None,
) -> None:
    """Deliver what is due, until told to stop.

    SIGTERM and Ctrl-C finish the mail that is being sent and return the rest to the outbox. Any
    number of workers may share one outbox.
    """
    if drain and until_empty:
        raise typer.BadParameter("use either --drain or --until-empty, not both")
    with open_outbox(
        connections_per_relay=connections, log_format=log_format, log_level=log_level
    ) as context:
        logs.configure(context.settings.log_format, context.settings.log_level)
        if processes == 1:
            _run_worker(context, drain=drain, until_empty=until_empty)
        else:
            options = {"connections": connections, "log-format": log_format, "log-level": log_level}
            stops = [*["--drain"] * drain, *["--until-empty"] * until_empty]
            given = [f"--{name}={value}" for name, value in options.items() if value is not None]
            _supervise(context, processes, [*stops, *given])


def _run_worker(context: CommandContext, *, drain: bool, until_empty: bool) -> None:
    runner = context.outbox.worker()
    with _stopped_by_signals(runner.stop):
        where = shown_url(context.engine.url)
        log.info("worker started", extra={"version": __version__, "database": where})
        if drain:
            runner.drain()
        else:
            runner.run(until_empty=until_empty)
        log.info("worker stopped")


def _supervise(context: CommandContext, processes: int, options: list[str]) -> None:
    """Run ``processes`` children, each with ``options``."""
    context.outbox.worker()  # reports a missing setting once, and not from each process
    context.outbox.close()
    with child_launcher(["worker", *options]) as start:
        supervisor = Supervisor(
            start=start,
            size=processes,
            ends="--drain" in options or "--until-empty" in options,
            shutdown_grace_s=context.settings.shutdown_grace_s + _BEYOND_GRACE_S,
        )
        with _stopped_by_signals(supervisor.stop, times=2):
            all_stopped = supervisor.run()
    if supervisor.has_failed:
        raise CommandError(
            "the worker processes could not continue; see their errors above",
            ExitCode.CONFIGURATION,
        )
    if not all_stopped:
        raise CommandError(
            "stopped before every worker process had ended: mail that was being sent is tried "
            "again when its lease expires",
            ExitCode.FAILED,
        )


@contextmanager
def _stopped_by_signals(stop: Callable[[], None], *, times: int = 1) -> Iterator[None]:
    """Call ``stop`` at the first ``times`` signals; after those, a signal ends us at once."""
    left = times

    def count(number: int, frame: FrameType | None) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            restore()
        stop()

    before = {number: signal.signal(number, count) for number in _STOP_SIGNALS}

    def restore() -> None:
        for number, former in before.items():
            signal.signal(number, former)

    try:
        yield
    finally:
        restore()
