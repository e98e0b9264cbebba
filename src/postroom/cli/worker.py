"""``worker``: the process that empties the outbox."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated

import typer

from postroom import Worker, __version__
from postroom.cli import logs
from postroom.cli.opening import opened
from postroom.settings import LogFormat, LogLevel

log = logging.getLogger("postroom.worker")

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def worker(
    drain: Annotated[bool, typer.Option("--drain", help="Stop when nothing is due now.")] = False,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="Stop when nothing waits, retries included.")
    ] = False,
    connections: Annotated[
        int | None, typer.Option(min=1, help="Connections to each relay.")
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
    with opened(connections=connections, log_format=log_format, log_level=log_level) as desk:
        logs.configure(desk.settings.log_format, desk.settings.log_level)
        at_work = desk.outbox.worker()
        with _stopped_by_signals(at_work):
            where = desk.engine.url.render_as_string(hide_password=True)
            log.info("worker started", extra={"version": __version__, "database": where})
            if drain:
                at_work.drain()
            else:
                at_work.run(until_empty=until_empty)
            log.info("worker stopped")


@contextmanager
def _stopped_by_signals(at_work: Worker) -> Iterator[None]:
    """Let the first signal stop the worker gently, and a second one at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        for kind, former in before.items():
            signal.signal(kind, former)
        at_work.stop()

    before = {kind: signal.signal(kind, stop) for kind in _STOP_SIGNALS}
    try:
        yield
    finally:
        for kind, former in before.items():
            signal.signal(kind, former)
