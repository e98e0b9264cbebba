"""A worker process for tests to kill.

``python -m tests.faults.worker DATABASE_URL RELAY_URL LEASE_S CLOCK_OFF_S``
"""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, tzinfo

from postroom import Outbox, WorkerConfig, clock
from postroom.storage.engine import worker_engine


def main(database_url: str, relay_url: str, lease_s: str, clock_off_s: str) -> None:
    """Work until nothing is left."""
    set_clock(timedelta(seconds=float(clock_off_s)))
    config = WorkerConfig(lease_s=float(lease_s), poll_interval_s=0.1, in_doubt_retry_s=0.5)
    engine = worker_engine(database_url)
    Outbox(relay_url, engine=engine, worker=config).worker().run(until_empty=True)


def set_clock(off: timedelta) -> None:
    """Let this process believe that it is earlier or later than it is."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + off

    clock.datetime = Wrong  # type: ignore[misc, assignment]


if __name__ == "__main__":
    main(*sys.argv[1:])
