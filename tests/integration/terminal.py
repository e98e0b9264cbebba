"""A terminal for tests: types a command, and looks at what a person or a script would see."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from postroom.cli.app import run

#: A part of passwords; no command may ever show it.
SECRET = "correct-horse-battery"

COMMAND = (sys.executable, "-W", "error", "-c", "from postroom.cli import main; main()")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a command printed."""

    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """Standard output, with single spaces between words."""
        return [" ".join(line.split()) for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True)
class Terminal:
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def set(self, **settings: str) -> None:
        """Set variables, as ``export POSTROOM_…=`` would."""
        for name, value in settings.items():
            self.monkeypatch.setenv(f"POSTROOM_{name.upper()}", value)

    def run(self, *arguments: str, code: int = 0, typed: str = "") -> Shown:
        """Run a command to its end; it must exit with ``code``."""
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        self.capsys.readouterr()
        exit_code = run(arguments)
        captured = self.capsys.readouterr()
        shown = Shown(out=captured.out, err=captured.err)
        assert exit_code == code, shown
        assert SECRET not in shown.out + shown.err
        return shown

    def type(self, line: str) -> Shown:
        """Type a whole command line; it must succeed."""
        command, *arguments = shlex.split(line)
        assert command == "postroom"
        return self.run(*arguments)

    def fails(self, code: int, *arguments: str, typed: str = "") -> str:
        """Run a command that must fail with a short text; return the text."""
        shown = self.run(*arguments, code=code, typed=typed)
        assert shown.out == ""
        assert 1 <= len(shown.err.splitlines()) <= 2, shown.err
        assert "Traceback" not in shown.err
        return shown.err

    def stored(self) -> int:
        """Return how many messages there are."""
        return len(self.run("search", "--json").json)

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command as a process, with the same directory and settings."""
        # Background jobs of a shell ignore Ctrl-C, and so would the tests' children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        ) as process:
            try:
                yield process
            finally:
                process.kill()
