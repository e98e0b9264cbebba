"""A program of the bench's own in a process of its own, spoken to in lines of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from bench.harness.places import ROOT


class Child:
    """Runs ``python -m MODULE ORDER``; killed at the end where it has not ended by itself."""

    def __init__(self, module: str, order: Mapping[str, Any]) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(order)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._child.pid

    def say(self, word: str) -> None:
        """Write one line to its standard input."""
        assert self._child.stdin is not None
        self._child.stdin.write(word + "\n")
        self._child.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for its next line."""
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._child.args} ended, exit code {self._child.wait()}")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def join(self) -> None:
        """Wait for its end."""
        self._child.wait(60)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._child.terminate()

    def kill(self) -> None:
        """End it now, if it has not ended."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                stream.close()
