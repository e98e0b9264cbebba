"""The clocks, and the only place that reads them: whoever waits or dates is given a `Clock`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial


def utc_now() -> datetime:
    """Return the wall clock in UTC, for records that people read."""
    return datetime.now(UTC)


#: The local clock of this machine, in seconds. A suspended machine or a stopped process cannot
#: hold it back: a lease goes on running out while a laptop sleeps. Not a function written in
#: Python: it is asked several times for each mail.
monotonic: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """What a worker tells the time by; a test passes one that it moves itself.

    Attributes:
        monotonic: For waits and leases, in seconds from any start; never set back.
        utc_now: For records, as an aware `datetime` in UTC.
    """

    monotonic: Callable[[], float] = monotonic
    utc_now: Callable[[], datetime] = utc_now


#: The clocks of this machine.
SYSTEM_CLOCK = Clock()
