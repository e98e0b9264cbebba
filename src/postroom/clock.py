"""Time for local waits: monotonic, and running on while the machine is suspended."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial


def utc_now() -> datetime:
    """Return the wall clock, for records that people read."""
    return datetime.now(UTC)


#: The local clock of this machine, in seconds. A suspended machine or a stopped process cannot
#: hold it back: a lease goes on running out while a laptop sleeps. Not a function written in
#: Python: it is asked several times for each mail.
monotonic: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)
