"""``suppress`` and ``unsuppress``: addresses that are not written to."""

from __future__ import annotations

from typing import Annotated

import typer

from postroom.cli.context import open_outbox
from postroom.cli.errors import CommandError, ExitCode
from postroom.cli.output import echo

AddressArgument = Annotated[str, typer.Argument(metavar="ADDRESS", help="The email address.")]


def suppress(
    address: AddressArgument,
    reason: Annotated[str, typer.Option(help="Why, for whoever asks later.")] = "by hand",
) -> None:
    """Never write to ADDRESS again: what waits for it ends as suppressed."""
    with open_outbox() as context, context.writing() as connection:
        context.outbox.suppress(connection, address, reason)
    echo(f"{address} is suppressed: {reason}")


def unsuppress(address: AddressArgument) -> None:
    """Write to ADDRESS again. `postroom retry` takes up what ended meanwhile."""
    with open_outbox() as context, context.writing() as connection:
        was_suppressed = context.outbox.unsuppress(connection, address)
    if not was_suppressed:
        raise CommandError(f"{address} is not suppressed", ExitCode.NOT_FOUND)
    echo(f"{address} is written to again")
