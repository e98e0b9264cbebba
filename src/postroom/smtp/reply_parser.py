"""Replies out of bytes: incremental, and bounded in line length and lines (RFC 5321 section 4.2).

The time they may take is the connection's to watch.
"""

from __future__ import annotations

import re
from functools import lru_cache

from postroom.smtp.reply import Reply
from postroom.text import safe_for_terminal

#: RFC 5321 section 4.5.3.1.5 says 512; explanations with links in them run longer.
MAX_LINE_BYTES = 4096
MAX_LINES = 100

_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*?))?\r?", re.DOTALL)
_SHOWN_BYTES = 60


class MalformedReply(Exception):
    """What came is not a reply; whatever follows it cannot be told apart any more."""


class ReplyParser:
    """Takes bytes as they come, gives replies as they are complete."""

    __slots__ = ("_buffer", "_parts", "_start")

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0
        #: The lines so far of a reply that is still incomplete.
        self._parts: list[Reply] = []

    @property
    def is_empty(self) -> bool:
        """Return whether every byte so far belonged to a reply already given."""
        return self._start == len(self._buffer) and not self._parts

    def feed(self, received: bytes) -> None:
        """Take more bytes."""
        self._buffer = self._buffer[self._start :] + received
        self._start = 0

    def next(self) -> Reply | None:
        """Return the next complete reply, None while there is none.

        Raises:
            MalformedReply: what came cannot be the beginning of a reply.
        """
        while (end := self._buffer.find(b"\n", self._start)) >= 0:
            line = self._buffer[self._start : end]
            self._start = end + 1
            part, goes_on = _parsed(line)
            reply = self._joined(part, goes_on=goes_on) if goes_on or self._parts else part
            if reply is not None:
                return reply
        if len(self._buffer) - self._start > MAX_LINE_BYTES:
            raise _too_long()
        return None

    def _joined(self, part: Reply, *, goes_on: bool) -> Reply | None:
        """Add a line to the reply at hand; return the reply where it was the last one."""
        parts = self._parts
        if parts and parts[0].code != part.code:
            raise MalformedReply(f"codes {parts[0].code} and {part.code} in one reply")
        parts.append(part)
        if len(parts) > MAX_LINES:
            raise MalformedReply(f"a reply of more than {MAX_LINES} lines")
        if goes_on:
            return None
        self._parts = []
        return Reply(code=part.code, lines=tuple(part.lines[0] for part in parts))


# Relays say the same few lines to every mail.
@lru_cache(maxsize=256)
def _parsed(line: bytes) -> tuple[Reply, bool]:
    """Return a line as a reply of its own, and whether more lines follow it."""
    if len(line) > MAX_LINE_BYTES:
        raise _too_long()
    found = _LINE.fullmatch(line)
    if found is None:
        raise MalformedReply(f"the line {line[:_SHOWN_BYTES]!r}")
    code, separator, text = found.groups()
    return Reply(code=int(code), lines=(_shown(text or b""),)), separator == b"-"


def _too_long() -> MalformedReply:
    return MalformedReply(f"a line of more than {MAX_LINE_BYTES} bytes")


def _shown(text: bytes) -> str:
    """Decode a line, fit to be stored and printed: databases refuse NUL, terminals obey ESC."""
    return safe_for_terminal(text.decode("utf-8", "replace"))
