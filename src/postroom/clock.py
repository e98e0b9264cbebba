"""The clocks: the wall clock for records, and a monotonic one for waits and leases.

The monotonic clock also runs while the machine is suspended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial


def utc_now() -> datetime:
    """Return the current time, aware and in UTC, for records."""
    return datetime.now(UTC)


#: Seconds since some fixed time. It also runs while the machine is suspended or the process is
#: stopped, so a lease expires while a laptop sleeps. It is called several times for each mail, so
#: it is not a Python function.
monotonic: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)
