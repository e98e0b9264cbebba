"""A secret that shows itself only when asked by name."""

from __future__ import annotations

from collections.abc import Callable


class Secret:
    """A password or token, masked in every text that could be printed or logged.

    It may be given as a callable, asked each time the secret is needed.
    """

    __slots__ = ("_source",)

    def __init__(self, source: str | Callable[[], str]) -> None:
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
