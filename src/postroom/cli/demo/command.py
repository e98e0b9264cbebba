"""``demo``: a small shop, its mail, and an inbox on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from postroom.errors import ConfigError


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave inbox and worker running until Ctrl-C.")
    ] = False,
) -> None:
    """Run a small shop: its orders, its mail, and a relay that refuses some of it.

    Needs nothing but a temporary folder, which is kept so that you can look into it.
    """
    try:
        from postroom.cli.demo.story import run_demo
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the demo's inbox needs {error.name}; run: pip install 'postroom[cli]'"
        ) from None
    run_demo(keep=keep)
