"""All commands; and the one place where an error becomes an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from postroom import __version__
from postroom.cli import database, logs, messages, preview, relay, send, stats, suppressions
from postroom.cli import worker as delivery
from postroom.cli.demo import command as demo
from postroom.cli.errors import ExitCode, describe
from postroom.cli.output import print_error
from postroom.config.sources import CONFIG_VARIABLE

app = typer.Typer(
    name="postroom",
    help="The email outbox for SQLAlchemy applications: send, deliver, and see what happened.",
    epilog="Settings are POSTROOM_… variables or a postroom.toml; `postroom init` writes one.",
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_SEND, _LOOK, _DECIDE, _SET_UP = "Send and deliver", "Look", "Decide", "Set up and tend"

app.command(rich_help_panel=_SEND)(send.send)
app.command(rich_help_panel=_SEND)(delivery.worker)
app.command(rich_help_panel=_SEND)(preview.preview)
app.command(rich_help_panel=_LOOK)(stats.stats)
app.command(rich_help_panel=_LOOK)(messages.search)
app.command(rich_help_panel=_LOOK)(messages.status)
app.command(rich_help_panel=_LOOK)(messages.explain)
app.command(rich_help_panel=_DECIDE)(messages.retry)
app.command(rich_help_panel=_DECIDE)(messages.cancel)
app.command(rich_help_panel=_DECIDE)(messages.resolve)
app.command(rich_help_panel=_DECIDE)(suppressions.suppress)
app.command(rich_help_panel=_DECIDE)(suppressions.unsuppress)
app.command(rich_help_panel=_SET_UP)(database.init)
app.command(rich_help_panel=_SET_UP)(demo.demo)
app.command(rich_help_panel=_SET_UP)(database.prune)
app.add_typer(relay.app, name="relay", rich_help_panel=_SET_UP)
app.add_typer(database.app, name="db", rich_help_panel=_SET_UP)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"postroom {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def postroom(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The settings file, instead of ./postroom.toml."),
    ] = None,
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where in the code an error comes from.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Set what every command needs."""
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; return its exit code.

    An error is printed in two lines at most; ``--traceback`` raises it instead.

    Args:
        arguments: The command line without the program's name; None for this process's.
    """
    # A command tells by itself what went wrong; `worker` logs as the settings say.
    logs.silence()
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        code = app(given, standalone_mode=False, prog_name="postroom")
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except Exception as error:
        if "--traceback" in given:
            raise
        found = describe(error)
        if found.text:
            print_error(found.text)
        return found.code
    return code if isinstance(code, int) else ExitCode.OK
