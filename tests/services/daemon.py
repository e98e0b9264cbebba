"""One program in the foreground, in a folder of its own, that dies with us."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.services.waiting import wait_for


class Daemon:
    """A child process whose output goes to ``log`` in ``folder``.

    Started by root it runs as ``user`` where one is given, to whom the folder then belongs.
    """

    def __init__(self, name: str, user: str | None = None) -> None:
        self.name = name
        self.user = user if os.geteuid() == 0 else None
        # Not pytest's folder: a Unix socket's path may have 107 bytes only, and another user
        # must be able to get there.
        self.folder = Path(tempfile.mkdtemp(prefix=f"postroom-{name}-"))
        self.give(self.folder)
        self.log = self.folder / "log"
        self._child: subprocess.Popen[bytes] | None = None

    def give(self, path: Path) -> None:
        """Let ``path`` belong to the user that the program runs as."""
        if self.user:
            shutil.chown(path, self.user, pwd.getpwnam(self.user).pw_gid)

    def command(self, arguments: Sequence[str], *, dies_with_us: bool = False) -> list[str]:
        """Return ``arguments`` as run by the right user."""
        options = ["--pdeathsig", "KILL"] if dies_with_us else []
        if self.user:
            group = str(pwd.getpwnam(self.user).pw_gid)
            options += ["--reuid", self.user, "--regid", group, "--init-groups"]
        setpriv = shutil.which("setpriv")
        return [setpriv, *options, *arguments] if options and setpriv else list(arguments)

    def run(self, *arguments: str) -> None:
        """Run a command to its end, as the same user; its output is in the error."""
        done = subprocess.run(
            self.command(arguments), cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{arguments[0]} failed: {done.stdout}{done.stderr}")

    def start(self, *arguments: str, is_ready: Callable[[], bool]) -> None:
        """Start the program and wait until ``is_ready`` says so."""
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self.command(arguments, dies_with_us=True),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for(lambda: self._has_ended() or is_ready(), f"{self.name} to be ready")

    def _has_ended(self) -> bool:
        if self.has_ended:
            raise RuntimeError(f"{self.name} ended by itself: {self.log.read_text()[-2000:]}")
        return False

    @property
    def has_ended(self) -> bool:
        """Return whether the program, once started, is no longer there."""
        return self._child is not None and self._child.poll() is not None

    @property
    def pid(self) -> int:
        """Return the process id."""
        assert self._child is not None, "it was not started"
        return self._child.pid

    def send(self, number: int) -> None:
        """Send a signal to the program."""
        os.kill(self.pid, number)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 20.0) -> None:
        """Send a signal and wait for the end; kill what does not go."""
        if self._child is None:
            return
        if self._child.poll() is None:
            self._child.send_signal(number)
        try:
            self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None

    def remove(self) -> None:
        """Stop the program and delete its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
