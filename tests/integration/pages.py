"""The files and the lines to type that a page of the documentation shows."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.project.sources import ROOT

_FENCE = re.compile(r"^```(\w+) ?([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code; ``path`` is the file it belongs into, empty where it is only typed."""

    language: str
    path: str
    code: str


def blocks(page: str) -> list[Block]:
    """Return the blocks of ``docs/page``, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [Block(*found) for found in _FENCE.findall(text)]


def write_files(page: str, folder: Path) -> None:
    """Write the files that a page shows."""
    for block in blocks(page):
        if block.path:
            path = folder / block.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, encoding="utf-8")


def typed(page: str, containing: str) -> str:
    """Return the one block without a file that contains a text."""
    (found,) = (one.code for one in blocks(page) if not one.path and containing in one.code)
    return found


def run_lines(code: str, folder: Path) -> str:
    """Type the lines of a shell block in ``folder``, with the programs of this environment."""
    output = ""
    for line in code.splitlines():
        program, *words = shlex.split(line, comments=True)
        module = [] if program == "python" else ["-m", program]
        done = subprocess.run(
            [sys.executable, *module, *words],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        output += done.stdout
    return output
