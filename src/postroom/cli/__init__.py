"""The command ``postroom``: a thin layer over `postroom.Outbox`."""

from __future__ import annotations

import sys
import traceback
from types import TracebackType

__all__ = ["main"]

#: What the extra ``cli`` brings that this package imports.
_BROUGHT_BY_EXTRA = {"rich", "typer"}


def main() -> None:
    """Run the command with this process's arguments, and exit with its code."""
    try:
        from postroom.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in _BROUGHT_BY_EXTRA:
            raise
        sys.stderr.write("postroom: the command needs its extra: pip install 'postroom[cli]'\n")
        sys.exit(3)
    sys.excepthook = _print_traceback  # of --traceback
    sys.exit(run())


def _print_traceback(
    error_type: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print a traceback without control characters: it may quote text that somebody else wrote."""
    from postroom.text import safe_for_terminal

    sys.stderr.write(
        safe_for_terminal("".join(traceback.format_exception(error_type, error, trace)))
    )
