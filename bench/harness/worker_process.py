"""A worker in a process of its own, as ``postroom worker`` is: run, measure, tell.

Started by :mod:`bench.harness.worker`. It says ``ready``, waits for a line, works until the
outbox is empty or it is told to stop, and prints what that cost as JSON.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from postroom import Outbox
from postroom.delivery.config import WorkerConfig
from postroom.storage.engine import worker_engine


def main() -> None:
    """Do one run."""
    order: dict[str, Any] = json.loads(sys.argv[1])
    outbox = Outbox(order["relay"], engine=worker_engine(order["database"]))
    outbox.check_schema()
    config = WorkerConfig(**order["config"])
    # Everything is imported and connected once before the clock runs.
    outbox.worker(config).drain()
    say({"ready": True, "idle_kib": status_kib("VmRSS")})
    sys.stdin.readline()
    forget_peak()
    worker = outbox.worker(config)
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())
    before, started = os.times(), time.perf_counter()
    if order["until_stopped"]:
        worker.run()
    else:
        worker.drain()
    elapsed_s, after = time.perf_counter() - started, os.times()
    say(
        {
            "elapsed_s": elapsed_s,
            "cpu_s": after.user + after.system - before.user - before.system,
            "peak_kib": status_kib("VmHWM"),
            "threads": threading.active_count(),
            "descriptors": len(list(Path("/proc/self/fd").iterdir())),
            "faults": resource.getrusage(resource.RUSAGE_SELF).ru_majflt,
        }
    )


def say(content: dict[str, Any]) -> None:
    """Print one line of JSON."""
    print(json.dumps(content), flush=True)


def status_kib(field: str) -> int:
    """Return a field of this process's status, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise LookupError(field)


def forget_peak() -> None:
    """Start VmHWM anew (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
