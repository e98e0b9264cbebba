"""A peer: what it is, what it needs, and one run of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.contest import Absent
from bench.harness.places import PEERS, ROOT
from tests.services.programs import find

SCRIPTS = Path(__file__).with_name("scripts")

#: A peer that has not ended by then is not measured but broken.
_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One way of sending mail.

    ``script`` is run with the interpreter of the peer's own environment, which holds
    ``packages``. ``is_durable`` says that mail outlives the process that asked for it.
    ``needs`` are servers the bench lends it: ``postgresql``, ``redis``.
    """

    name: str
    script: str
    packages: tuple[str, ...] = ()
    is_durable: bool = False
    needs: frozenset[str] = frozenset()
    note: str = ""

    @property
    def folder(self) -> Path:
        """Where its environment is."""
        return PEERS / self.name

    def run(self, order: Mapping[str, Any]) -> dict[str, float]:
        """Run it once; return what its script measured.

        Raises:
            Absent: it cannot be installed here, or failed.
        """
        self.install()
        done = subprocess.run(
            [*self._interpreter(), str(SCRIPTS / self.script)],
            input=json.dumps(dict(order)),
            cwd=SCRIPTS,
            env=os.environ | {"NODE_PATH": str(self.folder / "node_modules")},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            print(f"{done.stdout[-2000:]}{done.stderr[-4000:]}", file=sys.stderr)
            raise Absent(f"it failed: {(done.stderr.strip().splitlines() or ['silently'])[-1]}")
        measured: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
        return measured

    @property
    def is_node(self) -> bool:
        """Whether it runs on Node.js."""
        return self.script.endswith(".js")

    def _interpreter(self) -> Sequence[str]:
        return ["node"] if self.is_node else [str(self.folder / "bin" / "python")]

    def install(self) -> None:
        """Make its environment, unless it stands already."""
        stamp = self.folder / "stamp"
        # The interpreter too: peers are to run on the one that we run on.
        wanted = "\n".join([str(Path(sys.executable).resolve()), *self.packages])
        if stamp.is_file() and stamp.read_text() == wanted:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        commands = self._node_commands() if self.is_node else self._python_commands()
        for command in commands:
            done = subprocess.run(
                command, cwd=self.folder, capture_output=True, text=True, check=False
            )
            if done.returncode:
                lines = (done.stderr or done.stdout).strip().splitlines()
                raise Absent(f"its packages cannot be installed: {lines[-1] if lines else command}")
        stamp.write_text(wanted)

    def _python_commands(self) -> list[list[str]]:
        local = ROOT / ".bootstrap" / "bin" / "uv"
        uv = str(local if local.is_file() else find("uv") or "uv")
        python = str(self.folder / "bin" / "python")
        make = [uv, "venv", "--quiet", "--allow-existing", "--no-python-downloads"]
        commands = [[*make, "--python", sys.executable, str(self.folder)]]
        if self.packages:
            install = [uv, "pip", "install", "--quiet", "--python", python]
            commands.append([*install, *self.packages])
        return commands

    def _node_commands(self) -> list[list[str]]:
        npm = find("npm")
        if npm is None:
            raise Absent("Node.js is missing; run: apt-get install nodejs npm")
        install = [str(npm), "install", "--no-fund", "--no-audit", "--prefix", str(self.folder)]
        return [[*install, *self.packages]]
