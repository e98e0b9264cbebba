"""``status``: how the outbox does as a whole."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from postroom.cli.context import CommandContext, open_outbox
from postroom.cli.options import AsJson
from postroom.cli.output import console, echo, grid, print_json
from postroom.duration import human_duration
from postroom.storage.queries import OutboxStats, WorkerStatus


def status(
    watch: Annotated[bool, typer.Option("--watch", help="Show it again until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How often.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Count recipients by state; show how long the oldest due one waits, the rate, the workers."""
    with open_outbox() as opened:
        if as_json:
            print_json(_counts(opened))
        elif watch:
            _watch(opened, every)
        else:
            echo(_picture(_counts(opened)))


def _counts(opened: CommandContext) -> OutboxStats:
    with opened.reading() as connection:
        return opened.outbox.stats(connection)


def _watch(opened: CommandContext, every_s: float) -> None:
    with Live(_picture(_counts(opened)), console=console(), auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            live.update(_picture(_counts(opened)), refresh=True)


def _picture(counts: OutboxStats) -> RenderableType:
    rows = ((state, number) for state, number in counts.by_state.items())
    oldest_s = counts.oldest_due_s
    oldest = "" if oldest_s is None else f", the oldest for {human_duration(oldest_s)}"
    return Group(
        grid(["state", ">recipients"], rows) if counts.by_state else Text("nothing in the outbox"),
        Text(),
        Text(f"{counts.due:,} due now{oldest}"),
        Text(f"{counts.accepted_last_minute:,} accepted in the last minute"),
        *_set_aside(counts),
        Text(),
        _workers(counts.workers) if counts.workers else Text("no worker has been seen"),
    )


def _set_aside(counts: OutboxStats) -> list[Text]:
    if not counts.set_aside:
        return []
    return [
        Text(
            f"{counts.set_aside:,} of the rejected were set aside by a fault of ours: see "
            "`postroom list --state rejected`, then `postroom explain ID`"
        )
    ]


def _workers(workers: Sequence[WorkerStatus]) -> Table:
    rows = (
        (one.host, str(one.pid), one.version, one.started_at, f"{human_duration(one.seen_s)} ago")
        for one in workers
    )
    return grid(["worker", ">pid", "version", "since", "seen"], rows)
