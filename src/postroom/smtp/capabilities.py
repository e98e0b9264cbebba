"""The extensions that a relay announced in its reply to EHLO (RFC 5321 section 4.1.1.1).

What cannot be read counts as not announced, never as an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from postroom.smtp.reply import Reply

# "AUTH=LOGIN" is the form from before RFC 2554; a few relays still send it.
_KEYWORD = re.compile(r"([A-Za-z0-9-]+)[ =]?(.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The extensions of a relay; none of them if it only knows HELO.

    Attributes:
        has_starttls: STARTTLS (RFC 3207).
        has_pipelining: PIPELINING (RFC 2920).
        has_size: SIZE (RFC 1870), with or without a limit.
        has_8bitmime: 8BITMIME (RFC 6152).
        has_smtputf8: SMTPUTF8 (RFC 6531).
        has_dsn: DSN (RFC 3461).
        auth_mechanisms: The login mechanisms in upper case (RFC 4954).
        size_bytes: The largest message it accepts, in bytes; None if it gives no limit.
        max_recipients: The most recipients in a transaction (RFC 9422 ``RCPTMAX``); None: no limit.
        max_messages: The most messages on a connection (RFC 9422 ``MAILMAX``); None: no limit.
        lines: Every line as it was announced, for people to read.
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
    lines: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def parse(cls, reply: Reply) -> Capabilities:
        """Read the reply to EHLO or LHLO.

        Args:
            reply: The reply; its first line is only a greeting.
        """
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
            # Some announce "AUTH LOGIN" and "AUTH=PLAIN": both count.
            found[name] = f"{found[name]} {keyword[2]}" if name in found else keyword[2]
    return found


def _limits(text: str) -> Mapping[str, int]:
    pairs = (limit.partition("=") for limit in text.upper().split())
    return {name: value for name, _, number in pairs if (value := _positive(number))}


def _positive(text: str) -> int | None:
    """Return a limit; 0 means no limit (RFC 1870 section 4)."""
    first = text.split(maxsplit=1)[0] if text.split() else ""
    number = int(first) if first.isascii() and first.isdecimal() and len(first) < 19 else 0
    return number or None
