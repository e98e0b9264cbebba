"""When to try again after a failure that counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from postroom.values.errors import ConfigError
from postroom.values.headers import shown
from postroom.values.settled import LONGEST_S

_MINUTE_S = 60.0
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySchedule:
    """The waits between tries, in seconds, each stretched or shortened by up to ``jitter``.

    Raises:
        ConfigError: a delay is negative, or ``jitter`` is not between 0 and 1.
    """

    delays_s: tuple[float, ...]
    jitter: float = 0.2

    def __post_init__(self) -> None:
        """Refuse what cannot be waited for."""
        delays: Any = self.delays_s
        if not isinstance(delays, tuple) or not all(map(_is_delay, delays)):
            raise ConfigError(f"expected retry delays to be 0 or more, got: {shown(self.delays_s)}")
        if not _is_delay(self.jitter) or self.jitter >= 1:
            raise ConfigError(f"expected retry jitter to be from 0 to 1, got: {shown(self.jitter)}")

    def delay_s(self, tries: int, random: Callable[[], float]) -> float | None:
        """Return how long to wait after a failure that ``tries`` others came before.

        ``tries`` is 0 for the first. ``random`` returns a number from 0 to 1, as
        ``random.random`` does. None means that the schedule is used up.
        """
        if tries >= len(self.delays_s):
            return None
        return self.delays_s[tries] * (1 + self.jitter * (2 * random() - 1))


def _is_delay(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= LONGEST_S  # type: ignore[operator]


#: 1, 5, 15, 30 minutes, 1, 2, 4 hours, then every 4 hours until 3 days have passed.
DEFAULT_SCHEDULE = RetrySchedule(
    delays_s=(
        *(minutes * _MINUTE_S for minutes in (1, 5, 15, 30)),
        *(hours * _HOUR_S for hours in (1, 2, *(4,) * 17)),
    )
)
