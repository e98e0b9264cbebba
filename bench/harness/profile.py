"""Where our worker's time goes: py-spy's samples of who holds the interpreter, added up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from bench.harness.places import CACHE, ROOT, SCRATCH
from tests.services.programs import find

#: Set by ``--profile``: every worker process of the benches is then sampled.
VARIABLE = "BENCH_PROFILE"

_RATE = 500
_FRAME = re.compile(r"^(?P<function>.+) \((?P<file>[^():]+)(:\d+)?\)$")


def is_wanted() -> bool:
    """Return whether workers are to be sampled."""
    return VARIABLE in os.environ


class Sampler:
    """Samples one process until that ends."""

    def __init__(self, pid: int) -> None:
        self._samples = Path(tempfile.mkstemp(dir=SCRATCH, prefix="samples-")[1])
        options = ("--gil", "--threads", "--format", "raw", "--rate", str(_RATE))
        self._child = subprocess.Popen(
            [_py_spy(), "record", *options, "--output", self._samples, "--pid", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self._child.stdout is not None
        # It says how to stop it once it samples.
        self._child.stdout.readline()

    def told(self) -> str:
        """Wait for its end; return what it found."""
        self._child.communicate(timeout=60)
        told = "\n".join(_told(self._samples))
        self._samples.unlink()
        return told


def _py_spy() -> Path:
    folder = CACHE / "tools"
    program = folder / "bin" / "py-spy"
    if not program.is_file():
        local = ROOT / ".bootstrap" / "bin" / "uv"
        uv = str(local if local.is_file() else find("uv") or "uv")
        python = str(folder / "bin" / "python")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "-p", python, "py-spy==0.4.3"], check=True)
    return program


def _told(samples: Path, most: int = 25) -> Iterator[str]:
    """Yield lines: for each kind of thread, functions themselves and with what they call."""
    itself: dict[str, Counter[str]] = defaultdict(Counter)
    within: dict[str, Counter[str]] = defaultdict(Counter)
    for line in samples.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        kind = re.sub(r"^thread \(\S+\): |[\d.]+$", "", thread)
        if not frames:
            continue
        names = [_named(frame) for frame in frames]
        itself[kind][names[-1]] += int(count)
        for name in set(names):
            within[kind][name] += int(count)
    total = sum(counts.total() for counts in itself.values())
    for kind in sorted(itself, key=lambda kind: -itself[kind].total()):
        yield f"{kind}: {itself[kind].total() / total:.1%} of the interpreter's time; of that"
        for counts in (within[kind], itself[kind]):
            yield "  with callees:" if counts is within[kind] else "  itself:"
            for name, count in counts.most_common(most):
                yield f"  {count / itself[kind].total():6.1%}  {name}"


def _named(frame: str) -> str:
    found = _FRAME.match(frame)
    if not found:
        return frame
    parts = Path(found["file"]).parts
    return f"{found['function']} ({'/'.join(parts[-2:])})"
