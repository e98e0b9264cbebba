"""A page shown in a browser: opened once, however often it is drawn, and kept from acting.

Anybody may have written the mail. Its HTML is shown as a mail reader would: without its scripts,
and without asking anybody for anything, which would also tell a sender that it was read.
"""

from __future__ import annotations

import os
import tempfile
import webbrowser
from html import escape
from pathlib import Path

from postroom.cli.output import say

#: What is in the page already, and nothing else (https://www.w3.org/TR/CSP3/).
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "img-src data:",
        "font-src data:",
        "style-src 'unsafe-inline'",
        "form-action 'none'",
        "base-uri 'none'",
    )
)

#: The frame's document has the policy of the page around it; ``sandbox`` without a word lets it
#: run no script, send no form, open no window and leave its frame for no other page.
_PAGE = """<!doctype html>
<html>
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
{refresh}<title>{title}</title>
<style>html, body {{ height: 100%; margin: 0 }} iframe {{ width: 100%; height: 100%; border: 0 }}\
</style>
</head>
<body><iframe sandbox referrerpolicy="no-referrer" srcdoc="{mail}"></iframe></body>
</html>
"""

_LOADS_AGAIN = '<meta http-equiv="refresh" content="1">\n'


class Browser:
    """Shows one page. Where it ``loads_again``, what is shown later replaces it."""

    def __init__(self, *, loads_again: bool) -> None:
        self._loads_again = loads_again
        self._file: Path | None = None

    def show(self, title: str, mail: str) -> None:
        """Write the page to a file of its own, and open it where that has not been done.

        Args:
            title: The title of the page: the mail's subject.
            mail: The mail's HTML; it cannot do anything in the browser.
        """
        content = _PAGE.format(
            policy=_POLICY,
            refresh=_LOADS_AGAIN if self._loads_again else "",
            title=escape(title),
            mail=escape(mail),
        )
        if self._file is not None:
            self._file.write_text(content, encoding="utf-8")
            return
        descriptor, name = tempfile.mkstemp(prefix="postroom-", suffix=".html")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        self._file = Path(name)
        say(name)
        webbrowser.open(self._file.as_uri())
