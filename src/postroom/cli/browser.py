"""A page shown in a browser: opened once, however often it is drawn."""

from __future__ import annotations

import os
import tempfile
import webbrowser
from pathlib import Path

from postroom.cli.output import say

#: At the page's end, where browsers heed it as well: before a doctype it would change the layout.
_LOADS_AGAIN = '<meta http-equiv="refresh" content="1">'


class Browser:
    """Shows one page. Where it ``loads_again``, what is shown later replaces it."""

    def __init__(self, *, loads_again: bool) -> None:
        self._loads_again = loads_again
        self._file: Path | None = None

    def show(self, page: str) -> None:
        """Write the page to a file of its own, and open it where that has not been done."""
        content = page + _LOADS_AGAIN if self._loads_again else page
        if self._file is not None:
            self._file.write_text(content, encoding="utf-8")
            return
        descriptor, name = tempfile.mkstemp(prefix="postroom-", suffix=".html")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        self._file = Path(name)
        say(name)
        webbrowser.open(self._file.as_uri())
