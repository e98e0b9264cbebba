"""The options of a relay URL: their names, and how each is read.

An unknown option is refused, with the nearest known name.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from postroom import checks
from postroom.duration import parse_duration_s, parse_rate
from postroom.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A limit: at most ``count`` mails in any window of ``period_s``.

    Attributes:
        count: How many mails, from 1.
        period_s: The length of the window, in seconds.

    Raises:
        ConfigError: One of them is not a positive number.
    """

    count: int
    period_s: float

    def __post_init__(self) -> None:
        """Check that both are positive."""
        checks.count(self.count, "the count of a rate")
        checks.seconds(self.period_s, "the period of a rate")

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Return the rate that is written like ``20/s``, ``100/min`` or ``2000/h``.

        Args:
            text: A whole number from 1, a slash, and a unit: s, m or min, h, d or w.

        Raises:
            ValueError: ``text`` is no rate. The error's text completes "must be".
        """
        count, period_s = parse_rate(text)
        return cls(count=count, period_s=period_s)


_BOOLEANS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class TlsMode(StrEnum):
    """Whether the connection is encrypted."""

    #: Always, with a verified certificate.
    REQUIRED = "required"
    #: If the relay announces STARTTLS; its certificate is not verified (RFC 7435).
    OPPORTUNISTIC = "opportunistic"
    #: Never.
    OFF = "off"


class AuthMechanism(StrEnum):
    """The login mechanism (RFC 4954)."""

    #: User name and password in one step (RFC 4616).
    PLAIN = "plain"
    #: The same in two steps; never standardized, widely used.
    LOGIN = "login"
    #: A digest is sent instead of the password (RFC 2195).
    CRAM_MD5 = "cram-md5"
    #: A token, in the form of Gmail and Microsoft.
    XOAUTH2 = "xoauth2"
    #: A token, in the standard form (RFC 7628).
    OAUTHBEARER = "oauthbearer"


class Pipelining(StrEnum):
    """How much is written before a reply is read, if the relay announces PIPELINING."""

    #: The next mail begins in the same write as the final dot (RFC 2920 section 3.1).
    FULL = "full"
    #: The commands of one mail share a write; the final dot is not followed by anything.
    TRANSACTION = "transaction"
    #: Every command waits for the reply to the one before it.
    OFF = "off"


def _text(text: str) -> str:
    if not text:
        raise ValueError("text that is not empty")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("a whole number from 1")
    return int(text)


def _duration_s(text: str) -> float:
    duration_s = parse_duration_s(text, default_unit="s")
    if not duration_s:
        raise ValueError("a duration above 0, such as 30s or 5m")
    return duration_s


def _boolean(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise ValueError("yes or no")
    return _BOOLEANS[text.lower()]


def _tls_version(text: str) -> str:
    if text not in {"1.2", "1.3"}:
        raise ValueError("1.2 or 1.3")
    return text


def _member(enum: type[StrEnum]) -> Callable[[str], StrEnum]:
    def read(text: str) -> StrEnum:
        try:
            return enum(text.lower())
        except ValueError:
            raise ValueError("one of " + ", ".join(enum)) from None

    return read


#: Option -> the field of ``Relay`` that it sets, and how it is read.
OPTIONS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "name": ("name", _text),
    "tls": ("tls", _member(TlsMode)),
    "min_tls": ("min_tls", _tls_version),
    "ca": ("ca", _text),
    "cert": ("cert", _text),
    "key": ("key", _text),
    "auth": ("auth", _member(AuthMechanism)),
    "auth_over_clear": ("auth_over_clear", _boolean),
    "ehlo": ("ehlo_name", _text),
    "source": ("source_address", _text),
    "connections": ("connections", _count),
    "rate": ("rate", Rate.parse),
    "domain_rate": ("domain_rate", Rate.parse),
    "max_messages": ("max_messages_per_connection", _count),
    "pipelining": ("pipelining", _member(Pipelining)),
    "idle": ("idle_s", _duration_s),
}

#: Option -> the field of ``Timeouts`` that it sets.
TIMEOUTS: Mapping[str, str] = {
    "connect_timeout": "connect_s",
    "command_timeout": "command_s",
    "body_timeout": "body_s",
    "dot_timeout": "dot_s",
    "session_timeout": "session_s",
}

#: The options that a dry run may have.
DRY_RUN_OPTIONS = frozenset({"name", "connections", "rate", "domain_rate"})


def read(
    options: Mapping[str, str], *, is_dry_run: bool = False
) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the fields of ``Relay`` and of ``Timeouts`` that ``options`` set.

    Args:
        options: The options of a relay URL, by name.
        is_dry_run: Whether the URL is a dry run, which has few of them.

    Raises:
        ConfigError: An option is unknown or does not fit, or its value cannot be read.
    """
    fields: dict[str, Any] = {}
    timeouts: dict[str, float] = {}
    for option, text in options.items():
        if is_dry_run and option not in DRY_RUN_OPTIONS:
            known = ", ".join(sorted(DRY_RUN_OPTIONS))
            raise ConfigError(f"a dry run has no option {option}, only {known}")
        if option in OPTIONS:
            field, reader = OPTIONS[option]
            fields[field] = _value(option, text, reader)
        elif option in TIMEOUTS:
            timeouts[TIMEOUTS[option]] = _value(option, text, _duration_s)
        else:
            raise _unknown(option)
    return fields, timeouts


def _value(option: str, text: str, reader: Callable[[str], Any]) -> Any:
    try:
        return reader(text)
    except ValueError as error:
        raise ConfigError(f"the relay option {option} must be {error}, not {text!r}") from None


def _unknown(option: str) -> ConfigError:
    known = [*OPTIONS, *TIMEOUTS]
    close = difflib.get_close_matches(option, known, n=1)
    advice = f"did you mean {close[0]}?" if close else "known are " + ", ".join(known)
    return ConfigError(f"unknown relay option {option!r}; {advice}")
