"""Replies out of bytes: incremental, and bounded in line length and lines (RFC 5321 section 4.2).

The time they may take is the connection's to watch.
"""

from __future__ import annotations

import re

from postroom.values.reply import Reply

#: RFC 5321 section 4.5.3.1.5 says 512; explanations with links in them run longer.
MAX_LINE_BYTES = 4096
MAX_LINES = 100

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)
_SHOWN_BYTES = 60


class MalformedReply(Exception):
    """What came is not a reply; whatever follows it cannot be told apart any more."""


class ReplyParser:
    """Takes bytes as they come, gives replies as they are complete."""

    __slots__ = ("_buffer", "_code", "_lines", "_start")

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0
        #: Of the reply that is still incomplete.
        self._code = b""
        self._lines: list[str] = []

    @property
    def is_empty(self) -> bool:
        """Return whether every byte so far belonged to a reply already given."""
        return self._start == len(self._buffer) and not self._lines

    def feed(self, received: bytes) -> None:
        """Take more bytes."""
        self._buffer = self._buffer[self._start :] + received
        self._start = 0

    def next(self) -> Reply | None:
        """Return the next complete reply, None while there is none.

        Raises:
            MalformedReply: what came cannot be the beginning of a reply.
        """
        while (line := self._next_line()) is not None:
            if (reply := self._taken(line)) is not None:
                return reply
        return None

    def _next_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._start)
        size = (len(self._buffer) if end < 0 else end) - self._start
        if size > MAX_LINE_BYTES:
            raise MalformedReply(f"a line of more than {MAX_LINE_BYTES} bytes")
        if end < 0:
            return None
        line = self._buffer[self._start : end]
        self._start = end + 1
        return line[:-1] if line.endswith(b"\r") else line

    def _taken(self, line: bytes) -> Reply | None:
        """Add a line to the reply at hand; return the reply where it was the last one."""
        found = _LINE.fullmatch(line)
        if found is None or (self._lines and found[1] != self._code):
            raise MalformedReply(f"the line {line[:_SHOWN_BYTES]!r}")
        code, separator, text = found.groups()
        if separator != b"-" and not self._lines:
            return Reply(code=int(code), lines=(_shown(text or b""),))
        self._code = code
        self._lines.append(_shown(text or b""))
        if len(self._lines) > MAX_LINES:
            raise MalformedReply(f"a reply of more than {MAX_LINES} lines")
        if separator == b"-":
            return None
        reply = Reply(code=int(code), lines=tuple(self._lines))
        self._lines = []
        return reply


def _shown(text: bytes) -> str:
    """Decode a line, fit to be stored and printed: databases refuse NUL, terminals obey ESC."""
    line = text.decode("utf-8", "replace")
    if line.isprintable():
        return line
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line
    )
