"""What a relay announced in its reply to EHLO (RFC 5321 section 4.1.1.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from postroom.smtp.reply import Reply

# "AUTH=LOGIN" is how some announced it before RFC 2554, and a few still do.
_KEYWORD = re.compile(r"([A-Za-z0-9-]+)[ =]?(.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The extensions of a relay; none where it speaks only HELO.

    ``size_bytes`` is the largest message it takes, ``max_recipients`` and ``max_messages`` its
    limits for a transaction and a connection (RFC 9422); None where it names no limit.
    """

    has_starttls: bool = False
    has_pipelining: bool = False
    has_size: bool = False
    has_8bitmime: bool = False
    has_smtputf8: bool = False
    has_dsn: bool = False
    auth_mechanisms: frozenset[str] = frozenset()
    size_bytes: int | None = None
    max_recipients: int | None = None
    max_messages: int | None = None
    #: Every line as it was announced, for people to look at.
    lines: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, reply: Reply) -> Capabilities:
        """Read the reply to EHLO or LHLO; its first line is only a welcome."""
        lines = reply.lines[1:]
        found = _keywords(lines)
        limits = _limits(found.get("LIMITS", ""))
        return cls(
            has_starttls="STARTTLS" in found,
            has_pipelining="PIPELINING" in found,
            has_size="SIZE" in found,
            has_8bitmime="8BITMIME" in found,
            has_smtputf8="SMTPUTF8" in found,
            has_dsn="DSN" in found,
            auth_mechanisms=frozenset(found.get("AUTH", "").upper().split()),
            size_bytes=_positive(found.get("SIZE", "")),
            max_recipients=limits.get("RCPTMAX"),
            max_messages=limits.get("MAILMAX"),
            lines=lines,
        )


def _keywords(lines: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        if keyword := _KEYWORD.fullmatch(line.strip()):
            name = keyword[1].upper()
            # Announced twice, as "AUTH LOGIN" and "AUTH=PLAIN": both hold.
            found[name] = f"{found[name]} {keyword[2]}" if name in found else keyword[2]
    return found


def _limits(text: str) -> Mapping[str, int]:
    pairs = (limit.partition("=") for limit in text.upper().split())
    return {name: value for name, _, number in pairs if (value := _positive(number))}


def _positive(text: str) -> int | None:
    """Return a limit; RFC 1870 section 4 says that 0 means none."""
    first = text.split(maxsplit=1)[0] if text.split() else ""
    number = int(first) if first.isascii() and first.isdecimal() and len(first) < 19 else 0
    return number or None
