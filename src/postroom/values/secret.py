"""A secret that shows itself only when asked by name."""

from __future__ import annotations

import re
from collections.abc import Callable

from postroom.values.errors import ConfigError

#: NUL ends a field of AUTH PLAIN (RFC 4616 section 2), CR and LF end a line.
_PRINTABLE = re.compile("[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{0,10000}")


class Secret:
    """A password or token, masked in every text that could be printed or logged.

    It may be given as a callable, asked each time the secret is needed.

    Raises:
        ConfigError: it is neither, or holds what no login can carry; the text does not show it.
    """

    __slots__ = ("_source",)

    def __init__(self, source: str | Callable[[], str]) -> None:
        if isinstance(source, str):
            if not _PRINTABLE.fullmatch(source):
                raise ConfigError(
                    "a password must be one line of up to 10,000 characters without control "
                    "characters; was it read from a file with its line end?"
                )
        elif not callable(source):
            raise ConfigError(
                "a password must be text or a callable that returns it, not a "
                f"{type(source).__name__}"
            )
        self._source = source

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._source if isinstance(self._source, str) else self._source()

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._source == other._source

    def __hash__(self) -> int:
        return hash(self._source)
