"""What the figures were measured on: enough to compare, nothing that names a machine."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from bench.harness.places import SCRATCH
from tests.services.programs import find

_PACKAGES = ("postroom", "sqlalchemy", "psycopg", "jinja2", "pybase64")


def describe() -> dict[str, str]:
    """Return what a reader needs to judge the figures, by name."""
    return {
        "CPU": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{_memory_gib():.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
        "SQLite": sqlite3.sqlite_version,
        "PostgreSQL": _output("postgres", "--version"),
        "Postfix": _output("postconf", "-h", "mail_version"),
        "disk": f"{_filesystem()}, fdatasync {_sync_us():.0f} us",
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _output(program: str, *arguments: str) -> str:
    path = find(program)
    if path is None:
        return "not installed"
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=True)
    return re.sub(r"^\S+ \(PostgreSQL\) ", "", done.stdout.strip())


def _filesystem() -> str:
    """Return the kind of file system that databases are put on."""
    command = ["stat", "--file-system", "--format=%T", SCRATCH]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _sync_us() -> float:
    """Return how long the disk takes to make 4 KiB durable: what every commit waits for."""
    times = []
    with tempfile.TemporaryFile(dir=SCRATCH) as file:
        for _ in range(100):
            started = time.perf_counter()
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e6
