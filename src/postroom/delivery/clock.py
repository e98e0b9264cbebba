"""Time for local waits: monotonic, and running on while the machine is suspended."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime


def boottime() -> float:
    """Return seconds on a clock that a suspended machine or a stopped process cannot hold back.

    ``CLOCK_BOOTTIME`` where there is one; a lease goes on running out while a laptop sleeps.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def utc_now() -> datetime:
    """Return the wall clock, for records that people read."""
    return datetime.now(UTC)


#: The local clock of this machine.
monotonic: Callable[[], float] = boottime if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
