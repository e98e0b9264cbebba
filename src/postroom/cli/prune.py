"""``prune``: what is over and old goes."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from postroom.cli.opening import opened
from postroom.cli.options import AsJson, duration
from postroom.cli.output import print_json, say


def prune(
    older_than: Annotated[
        timedelta,
        typer.Option(parser=duration, metavar="AGE", help="What is older goes: 30d, 12h, 4w."),
    ],
    batch: Annotated[int, typer.Option(min=1, help="Messages for each transaction.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Delete messages whose every recipient is final, and attachments that nobody has any more.

    Works in small transactions: it may be stopped at any time and never blocks delivery.
    """
    with opened() as desk:
        pruned = desk.outbox.prune(older_than, batch=batch)
    if as_json:
        print_json(pruned)
    else:
        say(f"{pruned.messages:,} messages and {pruned.blobs:,} attachments deleted")
