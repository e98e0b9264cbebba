"""Where benches put what they make: all of it under ``.cache``, which git does not see."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "bench"
#: On the disk of the checkout, not in /tmp, which may be memory: a commit must cost what it costs.
SCRATCH = CACHE / "scratch"
RESULTS = CACHE / "results"
PEERS = CACHE / "peers"
PUBLISHED = ROOT / "docs" / "benchmarks"

SCRATCH.mkdir(parents=True, exist_ok=True)


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield an empty folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(dir=SCRATCH))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
