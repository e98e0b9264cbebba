"""``flask postroom …``: the command, on the application's own outbox and settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click
from flask import current_app
from flask.cli import with_appcontext

from postroom.integrations.flask.configuration import variables
from postroom.integrations.flask.state import state_of
from postroom.integrations.flask.templating import folders_of

#: What the extra ``cli`` brings that the command imports.
_BROUGHT_BY_EXTRA = {"rich", "typer"}


@click.command(
    "postroom",
    short_help="The outbox: deliver, look, decide.",
    # All of it is for the command itself, --help included.
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@with_appcontext
def postroom(arguments: Sequence[str]) -> None:
    """Run a command of Postroom's with the application's settings and database."""
    try:
        from postroom.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in _BROUGHT_BY_EXTRA:
            raise
        raise click.ClickException(
            "the command needs its extra: pip install 'postroom[cli]'"
        ) from None
    state = state_of(current_app)
    settings = state.settings.model_copy(
        update={
            "database_url": state.outbox.engine.url.render_as_string(hide_password=False),
            "templates": folders_of(current_app, state.settings),
        }
    )
    # The environment, because some commands start processes of their own.
    os.environ.update(variables(settings))
    sys.exit(run(arguments))
