"""``suppress`` and ``unsuppress``: addresses that get no mail."""

from __future__ import annotations

from typing import Annotated

import typer

from postroom.cli.context import open_outbox
from postroom.cli.errors import CommandError, ExitCode
from postroom.cli.output import echo

AddressArgument = Annotated[str, typer.Argument(metavar="ADDRESS", help="The email address.")]


def suppress(
    address: AddressArgument,
    reason: Annotated[str, typer.Option(help="Why; shown with the mail.")] = "by hand",
) -> None:
    """Send nothing to ADDRESS any more: mail that waits for it ends as suppressed."""
    with open_outbox() as context, context.writing() as connection:
        context.outbox.suppress(connection, address, reason)
    echo(f"{address} is suppressed: {reason}")


def unsuppress(address: AddressArgument) -> None:
    """Send to ADDRESS again. `postroom retry` sends what was suppressed meanwhile."""
    with open_outbox() as context, context.writing() as connection:
        was_suppressed = context.outbox.unsuppress(connection, address)
    if not was_suppressed:
        raise CommandError(f"{address} is not suppressed", ExitCode.NOT_FOUND)
    echo(f"{address} is not suppressed any more")
