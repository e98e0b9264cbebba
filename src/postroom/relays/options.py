"""The options a relay URL may carry: their names, and how each is read."""

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
    """At most ``count`` in each period of ``period_s`` seconds.

    Raises:
        ConfigError: one of them is no positive number.
    """

    count: int
    period_s: float

    def __post_init__(self) -> None:
        """Refuse a rate at which nothing would ever go out, or that cannot be kept."""
        checks.count(self.count, "the count of a rate")
        checks.seconds(self.period_s, "the period of a rate")

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read ``20/s``, ``100/min`` or ``2000/h``.

        Raises:
            ValueError: ``text`` is no rate. The error's text completes "must be".
        """
        count, period_s = parse_rate(text)
        return cls(count=count, period_s=period_s)


_TRUTHS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class TlsMode(StrEnum):
    """Whether the connection is encrypted."""

    #: Always, with a verified certificate.
    REQUIRED = "required"
    #: Where the relay announces STARTTLS; its certificate is not verified (RFC 7435).
    OPPORTUNISTIC = "opportunistic"
    #: Never.
    OFF = "off"


class AuthMechanism(StrEnum):
    """How we log in (RFC 4954)."""

    #: User name and password in one step (RFC 4616).
    PLAIN = "plain"
    #: The same in two steps; never standardised, widely spoken.
    LOGIN = "login"
    #: The password stays here (RFC 2195).
    CRAM_MD5 = "cram-md5"
    #: A token, as Gmail and Microsoft take it.
    XOAUTH2 = "xoauth2"
    #: A token, as standardised (RFC 7628).
    OAUTHBEARER = "oauthbearer"


class Pipelining(StrEnum):
    """How much is written before a reply is read, where the relay announces PIPELINING."""

    #: The next mail is opened in the same write as the final dot (RFC 2920 section 3.1).
    FULL = "full"
    #: Commands of one transaction share a write; the final dot stands alone.
    TRANSACTION = "transaction"
    #: Every command waits for the reply to the one before it.
    OFF = "off"


def _text(text: str) -> str:
    if not text:
        raise ValueError("some text")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("a number from 1")
    return int(text)


def _duration_s(text: str) -> float:
    duration_s = parse_duration_s(text, default_unit="s")
    if not duration_s:
        raise ValueError("a duration above 0, such as 30s or 5m")
    return duration_s


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTHS:
        raise ValueError("yes or no")
    return _TRUTHS[text.lower()]


def _tls_version(text: str) -> str:
    if text not in {"1.2", "1.3"}:
        raise ValueError("1.2 or 1.3")
    return text


def _member(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    def read(text: str) -> StrEnum:
        try:
            return kind(text.lower())
        except ValueError:
            raise ValueError("one of " + ", ".join(kind)) from None

    return read


#: Option -> the field of ``Relay`` it sets, and how it is read.
OPTIONS: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "name": ("name", _text),
    "tls": ("tls", _member(TlsMode)),
    "min_tls": ("min_tls", _tls_version),
    "ca": ("ca", _text),
    "cert": ("cert", _text),
    "key": ("key", _text),
    "auth": ("auth", _member(AuthMechanism)),
    "auth_over_clear": ("auth_over_clear", _truth),
    "ehlo": ("ehlo_name", _text),
    "source": ("source_address", _text),
    "connections": ("connections", _count),
    "rate": ("rate", Rate.parse),
    "domain_rate": ("domain_rate", Rate.parse),
    "max_messages": ("max_messages_per_connection", _count),
    "pipelining": ("pipelining", _member(Pipelining)),
    "idle": ("idle_s", _duration_s),
}

#: Option -> the field of ``Timeouts`` it sets.
TIMEOUTS: Mapping[str, str] = {
    "connect_timeout": "connect_s",
    "command_timeout": "command_s",
    "body_timeout": "body_s",
    "dot_timeout": "dot_s",
    "session_timeout": "session_s",
}


#: The options that say something about a relay that is none.
DRY_RUN_OPTIONS = frozenset({"name", "connections", "rate", "domain_rate"})


def read(
    options: Mapping[str, str], *, is_dry_run: bool = False
) -> tuple[dict[str, Any], dict[str, float]]:
    """Return the fields of ``Relay`` and of ``Timeouts`` that ``options`` set.

    Raises:
        ConfigError: an option is unknown or out of place, or its value cannot be read.
    """
    fields: dict[str, Any] = {}
    timeouts: dict[str, float] = {}
    for option, text in options.items():
        if is_dry_run and option not in DRY_RUN_OPTIONS:
            known = ", ".join(sorted(DRY_RUN_OPTIONS))
            raise ConfigError(f"expected the options of a dry run to be of {known}, got: {option}")
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
    near = difflib.get_close_matches(option, known, n=1)
    hint = f"did you mean {near[0]}?" if near else "known are " + ", ".join(known)
    return ConfigError(f"expected a known relay option, got: {option!r}; {hint}")
