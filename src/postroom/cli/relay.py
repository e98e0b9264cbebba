"""``relay check``: looks at a relay as a worker would meet it, step by step."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from postroom.cli.errors import CommandError, ExitCode
from postroom.cli.options import AsJson
from postroom.cli.output import echo, print_json
from postroom.config.settings import Settings
from postroom.errors import ConfigError
from postroom.message.address import Address
from postroom.message.envelope import Envelope
from postroom.message.message import Draft
from postroom.message.mime import compose, message_id_for
from postroom.relays.relay import Relay
from postroom.smtp.diagnostics import CheckStep
from postroom.smtp.diagnostics import diagnose as inspect
from postroom.text import safe_for_terminal

app = typer.Typer(help="Look at the relays that mail is handed to.", no_args_is_help=True)

#: A person waits for the answer; a worker is more patient.
_CONNECT_S, _COMMAND_S = 10.0, 30.0

_Mail = tuple[Envelope, bytes]


@app.callback()
def relay() -> None:
    """Look at the relays that mail is handed to."""


@app.command()
def check(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Only this relay of several.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Send one real mail there as well.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Resolve, connect, encrypt, log in; show what was seen, and the likely cause of a failure.

    Leaves with 1 where a step fails.
    """
    settings = Settings.load()
    relays = [_with_short_timeouts(one) for one in _relays(settings, name)]
    mail = None if to is None else _mail(settings, Address(to))
    if as_json:
        seen = {one.name: list(inspect(one, mail=mail)) for one in relays}
        print_json(seen)
    else:
        seen = {one.name: list(_printed(one, mail)) for one in relays}
    if not all(step.ok for steps in seen.values() for step in steps):
        raise typer.Exit(ExitCode.FAILED)


def _relays(settings: Settings, name: str | None) -> list[Relay]:
    routing = settings.routing()
    if routing is None:
        raise ConfigError("expected a relay to look at, got: none; set POSTROOM_RELAY")
    relays = routing.relays
    if name is None:
        return list(relays.values())
    if name not in relays:
        raise CommandError(
            f"expected one of the relays {', '.join(relays)}, got: {name}", ExitCode.NOT_FOUND
        )
    return [relays[name]]


def _with_short_timeouts(one: Relay) -> Relay:
    allowed = one.timeouts
    timeouts = replace(
        allowed,
        connect_s=min(allowed.connect_s, _CONNECT_S),
        command_s=min(allowed.command_s, _COMMAND_S),
    )
    return replace(one, timeouts=timeouts)


def _mail(settings: Settings, to: Address) -> _Mail:
    if settings.sender is None:
        raise ConfigError("expected a sender for the mail, got: none; set POSTROOM_SENDER")
    draft = Draft(
        message_id_seed=secrets.token_hex(16),
        date=datetime.now(UTC),
        sender=Address(settings.sender),
        subject="Postroom can reach you",
        text="`postroom relay check` sent this mail. There is nothing to do.\n",
        html=None,
    )
    content = compose(draft)
    head = content.head(to=to, message_id=message_id_for(draft.message_id_seed, None, draft.sender))
    mail = head + b"".join(content.tail())
    envelope = Envelope(
        sender=draft.sender.envelope,
        recipients=(to.envelope,),
        size_bytes=len(mail),
        needs_smtputf8=content.needs_smtputf8 or to.needs_smtputf8,
    )
    return envelope, mail


def _printed(one: Relay, mail: _Mail | None) -> Iterator[CheckStep]:
    """Yield each step when a person has been told of it."""
    echo(Text(one.name, style="bold"))
    for step in inspect(one, mail=mail):
        echo(_line(step))
        yield step


def _line(step: CheckStep) -> Table:
    """Return a step in three columns that stand below those of the step before."""
    line = Table.grid(padding=(0, 2))
    line.add_column(min_width=len("failed"), style="green" if step.ok else "bold red")
    line.add_column(min_width=len("certificate"))
    line.add_column(overflow="fold")
    line.add_row("ok" if step.ok else "failed", step.name, safe_for_terminal(step.detail))
    if step.cause:
        line.add_row("", "", Text(step.cause, style="yellow"))
    return line
