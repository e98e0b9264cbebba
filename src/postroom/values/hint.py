"""The delay that a reply's text asks for."""

from __future__ import annotations

import re

_MINUTE_S = 60.0
_HOUR_S = 3600.0

#: Nobody means less than a second or more than a day by "try again".
_SHORTEST_HINT_S = 1.0
_LONGEST_HINT_S = 24 * _HOUR_S

_UNITS_S = {"s": 1.0, "m": _MINUTE_S, "h": _HOUR_S, "d": 24 * _HOUR_S}
_CUE = r"\b(?:try|retry|again|wait|back|gr[ea]y[- ]?list\w*|defer\w*|throttl\w*|delay\w*)\b"
_CLOCK = re.compile(_CUE + r"[^.;]{0,60}?\b(\d{1,2}):(\d{2})(?::(\d{2}))?\b(?!:)", re.IGNORECASE)
_AMOUNT = re.compile(
    _CUE + r"[^.;]{0,60}?\b(\d{1,6})\s*(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|days?)\b",
    re.IGNORECASE,
)


def hinted_delay_s(text: str) -> float | None:
    """Return the delay that a reply's text asks for, such as "try again in 300 seconds".

    From 1 second to a day; None where it names none.
    """
    if clock := _CLOCK.search(text):
        return _bounded(_clock_s(clock))
    if amount := _AMOUNT.search(text):
        return _bounded(int(amount[1]) * _UNITS_S[amount[2][0].lower()])
    return None


def _clock_s(found: re.Match[str]) -> float:
    first, second, third = found[1], found[2], found[3]
    if third is None:  # minutes and seconds
        return int(first) * _MINUTE_S + int(second)
    return int(first) * _HOUR_S + int(second) * _MINUTE_S + int(third)


def _bounded(delay_s: float) -> float:
    return min(max(delay_s, _SHORTEST_HINT_S), _LONGEST_HINT_S)
