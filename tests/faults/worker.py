"""A worker process for tests to kill: ``python -m tests.faults.worker DATABASE_URL RELAY_URL``."""

from __future__ import annotations

import sys

from postroom import Outbox, WorkerConfig
from postroom.storage.engine import worker_engine


def main(database_url: str, relay_url: str, lease_s: str) -> None:
    """Work until nothing is left."""
    config = WorkerConfig(lease_s=float(lease_s), poll_s=0.1, doubt_s=0.5)
    engine = worker_engine(database_url)
    Outbox(relay_url, engine=engine, worker=config).worker().run(until_empty=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
