"""How much may be sent in a time: ``20/s``, ``100/m``, ``2000/h``, ``10000/d``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from postroom.values import settled

_PERIODS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_RATE = re.compile(r"([0-9]{1,9})/([smhd])")


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
        settled.count(self.count, "the count of a rate")
        settled.seconds(self.period_s, "the period of a rate")

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read ``20/s``; units are s, m, h, d.

        Raises:
            ValueError: it is nothing of that form; the text says what was expected.
        """
        found = _RATE.fullmatch(text)
        if found is None or not int(found[1]) > 0:
            raise ValueError("a rate such as 20/s, 100/m or 2000/h")
        return cls(count=int(found[1]), period_s=_PERIODS_S[found[2]])
