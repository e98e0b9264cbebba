"""Durations and rates as people write them (``30s``, ``20/min``) and read them (``3 min``)."""

from __future__ import annotations

import re

#: How many seconds each unit has, under every name it goes by.
_UNITS_S = {
    "ms": 0.001,
    "s": 1.0,
    **dict.fromkeys(("m", "min"), 60.0),
    "h": 3600.0,
    "d": 86_400.0,
    "w": 7 * 86_400.0,
}
_UNIT = "(" + "|".join(sorted(_UNITS_S, key=len, reverse=True)) + ")"
_DURATION = re.compile(rf"([0-9]{{1,12}}(?:\.[0-9]{{1,9}})?)\s*{_UNIT}?", re.IGNORECASE)
_RATE = re.compile(rf"([0-9]{{1,9}})/{_UNIT}", re.IGNORECASE)

#: A unit, and up to how many seconds people count in it.
_SPOKEN = (("s", 120.0), ("min", 7200.0), ("h", 172_800.0))


def parse_duration_s(text: str, *, default_unit: str | None = None) -> float:
    """Read ``500ms``, ``30s``, ``5m`` or ``5min``, ``2h``, ``30d`` or ``4w``.

    Args:
        text: A number, which may have decimals, and a unit. Case does not matter.
        default_unit: The unit of a number that comes without one; None refuses such a number.

    Returns:
        The duration in seconds, 0 included.

    Raises:
        ValueError: ``text`` is no duration. The error's text completes "must be".
    """
    found = _DURATION.fullmatch(text.strip())
    unit = (found[2] or default_unit) if found else None
    if found is None or unit is None:
        raise ValueError("a duration such as 30s, 5m, 2h or 30d")
    return float(found[1]) * _UNITS_S[unit.lower()]


def parse_rate(text: str) -> tuple[int, float]:
    """Read ``20/s``, ``100/min`` or ``2000/h``; the units are those of a duration.

    Args:
        text: A whole number from 1, a slash, and a unit.

    Returns:
        How many, and in how many seconds.

    Raises:
        ValueError: ``text`` is no rate. The error's text completes "must be".
    """
    found = _RATE.fullmatch(text)
    if found is None or int(found[1]) < 1:
        raise ValueError("a rate such as 20/s, 100/min or 2000/h")
    return int(found[1]), _UNITS_S[found[2].lower()]


def human_duration(duration_s: float) -> str:
    """Return a duration as people say it: ``4 s``, ``3 min``, ``5 h`` or ``2 d``.

    Args:
        duration_s: In seconds.
    """
    unit = next((unit for unit, upto_s in _SPOKEN if duration_s < upto_s), "d")
    return f"{duration_s / _UNITS_S[unit]:.0f} {unit}"
