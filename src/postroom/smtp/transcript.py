"""What was said on a connection, fit to be stored: no credentials, no content, bounded."""

from __future__ import annotations

from postroom.values.reply import Reply

_MAX_ENTRIES = 40
_MAX_LINES_EACH = 20
_MAX_CHARACTERS = 8_000

_Said = bytes | str | Reply


class Transcript:
    """The handshake and the transaction at hand; entries are made readable only when asked."""

    __slots__ = ("_current", "_handshake")

    def __init__(self) -> None:
        self._handshake: list[_Said] = []
        self._current: list[_Said] = []

    def add(self, said: _Said) -> None:
        """Note what the relay said (a ``Reply``) or what we did, already redacted."""
        self._current.append(said)

    def end_handshake(self) -> None:
        """Keep what was said so far for good."""
        self._handshake = self._current
        self._current = []

    def begin(self, said: _Said) -> None:
        """Forget the transaction before, and begin with ``said``."""
        self._current = [said]

    def text(self) -> str:
        """Return it as lines that begin with ``>`` (we) or ``<`` (the relay)."""
        shown = [*self._handshake[:_MAX_ENTRIES], *self._current[:_MAX_ENTRIES]]
        lines = [line for said in shown for line in _lines(said)]
        if (left_out := len(self._current) - _MAX_ENTRIES) > 0:
            lines.append(f"[{left_out} more left out]")
        return "\n".join(lines)[:_MAX_CHARACTERS]


def _lines(said: _Said) -> list[str]:
    if isinstance(said, Reply):
        marks = ["-"] * (len(said.lines) - 1) + [" "]
        lines = [f"< {said.code}{mark}{line}" for mark, line in zip(marks, said.lines, strict=True)]
    elif isinstance(said, str):
        lines = [f"[{said}]"]
    else:
        lines = [f"> {line}" for line in said.decode("utf-8", "replace").splitlines()]
    if len(lines) > _MAX_LINES_EACH:
        left_out = len(lines) - _MAX_LINES_EACH
        lines[_MAX_LINES_EACH - 1 : -1] = [f"[{left_out} more lines left out]"]
    return lines
