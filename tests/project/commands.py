"""The commands of the CLI, as Typer built them."""

from __future__ import annotations

from collections.abc import Iterator

import click
import typer.main

from postroom.cli.app import app


def _leaves(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    children = getattr(command, "commands", {})
    if not children:
        yield name, command
    for child_name, child in children.items():
        yield from _leaves(child, f"{name} {child_name}")


#: Every command by its full name: ``postroom relay check``.
COMMANDS = dict(_leaves(typer.main.get_command(app), "postroom"))


def options(command: click.Command) -> list[click.Parameter]:
    """Return the options that a command shows, without its arguments."""
    return [
        parameter
        for parameter in command.params
        if parameter.param_type_name == "option" and not getattr(parameter, "hidden", False)
    ]
