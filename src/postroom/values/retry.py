"""When to try again after a failure that counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from postroom.values.errors import ConfigError

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
        if any(delay < 0 for delay in self.delays_s):
            raise ConfigError(f"expected retry delays to be 0 or more, got: {self.delays_s}")
        if not 0 <= self.jitter < 1:
            raise ConfigError(f"expected retry jitter to be from 0 to 1, got: {self.jitter}")

    def delay_s(self, tries: int, random: Callable[[], float]) -> float | None:
        """Return how long to wait after a failure that ``tries`` others came before.

        ``tries`` is 0 for the first. ``random`` returns a number from 0 to 1, as
        ``random.random`` does. None means that the schedule is used up.
        """
        if tries >= len(self.delays_s):
            return None
        return self.delays_s[tries] * (1 + self.jitter * (2 * random() - 1))


#: 1, 5, 15, 30 minutes, 1, 2, 4 hours, then every 4 hours until 3 days have passed.
DEFAULT_SCHEDULE = RetrySchedule(
    delays_s=(
        *(minutes * _MINUTE_S for minutes in (1, 5, 15, 30)),
        *(hours * _HOUR_S for hours in (1, 2, *(4,) * 17)),
    )
)
