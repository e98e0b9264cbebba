"""Parses replies from bytes as they arrive (RFC 5321 section 4.2).

The length of a line and the number of lines are limited. Deadlines are the connection's.
"""

from __future__ import annotations

import re
from functools import lru_cache

from postroom.smtp.reply import Reply
from postroom.text import safe_for_terminal

#: RFC 5321 section 4.5.3.1.5 says 512; replies with links in them are longer.
MAX_LINE_BYTES = 4096
MAX_LINES = 100

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*?))?\r?", re.DOTALL)
_SHOWN_BYTES = 60


class MalformedReply(Exception):
    """The bytes are not a reply; where the next one begins cannot be known."""


class ReplyParser:
    """Takes bytes as they arrive and returns each reply once it is complete."""

    __slots__ = ("_buffer", "_parts", "_start")

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0
        #: The lines of a reply whose last line has not arrived.
        self._parts: list[Reply] = []

    @property
    def is_empty(self) -> bool:
        """Return whether every byte so far belongs to a reply that was returned."""
        return self._start == len(self._buffer) and not self._parts

    def feed(self, received: bytes) -> None:
        """Add more bytes.

        Args:
            received: The next bytes from the relay, cut anywhere.
        """
        self._buffer = self._buffer[self._start :] + received
        self._start = 0

    def next(self) -> Reply | None:
        """Return the next complete reply; None if more bytes are needed.

        Raises:
            MalformedReply: The bytes cannot be the beginning of a reply.
        """
        while (end := self._buffer.find(b"\n", self._start)) >= 0:
            line = self._buffer[self._start : end]
            self._start = end + 1
            part, has_more = _parse_line(line)
            reply = self._append(part, has_more=has_more) if has_more or self._parts else part
            if reply is not None:
                return reply
        if len(self._buffer) - self._start > MAX_LINE_BYTES:
            raise _too_long()
        return None

    def _append(self, part: Reply, *, has_more: bool) -> Reply | None:
        """Add a line to the current reply; return the reply if it was the last line."""
        parts = self._parts
        if parts and parts[0].code != part.code:
            raise MalformedReply(f"codes {parts[0].code} and {part.code} in one reply")
        parts.append(part)
        if len(parts) > MAX_LINES:
            raise MalformedReply(f"a reply of more than {MAX_LINES} lines")
        if has_more:
            return None
        self._parts = []
        return Reply(code=part.code, lines=tuple(part.lines[0] for part in parts))


# Relays answer every mail with the same few lines.
@lru_cache(maxsize=256)
def _parse_line(line: bytes) -> tuple[Reply, bool]:
    """Return a line as a reply, and whether more lines follow it."""
    if len(line) > MAX_LINE_BYTES:
        raise _too_long()
    found = _LINE.fullmatch(line)
    if found is None:
        raise MalformedReply(f"the line {line[:_SHOWN_BYTES]!r}")
    code, separator, text = found.groups()
    return Reply(code=int(code), lines=(_decode(text or b""),)), separator == b"-"


def _too_long() -> MalformedReply:
    return MalformedReply(f"a line of more than {MAX_LINE_BYTES} bytes")


def _decode(text: bytes) -> str:
    """Decode a line for storage and terminals: databases refuse NUL, terminals obey ESC."""
    return safe_for_terminal(text.decode("utf-8", "replace"))
