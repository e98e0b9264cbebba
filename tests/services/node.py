"""Packages of Node's, as a lock file pins them: fetched once, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.services.programs import MISSING, find

_CACHE = Path(__file__).parents[2] / ".cache" / "node"


def modules(package: Path) -> tuple[str, Path]:
    """Return node, and the modules that ``package/package-lock.json`` asks for.

    Skips the test where node is missing or cannot fetch them.
    """
    node, npm = find("node"), find("npm")
    if node is None or npm is None:
        pytest.skip(f"{MISSING}node (npm)")
    lock = hashlib.sha256((package / "package-lock.json").read_bytes()).hexdigest()
    folder = _CACHE / f"{package.name}-{lock[:12]}"
    if not folder.is_dir():
        _install(npm, package, folder)
    return str(node), folder / "node_modules"


def _install(npm: Path, package: Path, folder: Path) -> None:
    """Fill ``folder``, at once: another run of the tests may do the same."""
    scratch = folder.with_suffix(f".{os.getpid()}")
    shutil.copytree(package, scratch)
    once = ("--fetch-retries=0", "--fetch-timeout=20000")
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", *once]
    if subprocess.run(command, cwd=scratch, capture_output=True, check=False).returncode:
        shutil.rmtree(scratch)
        pytest.skip(f"{MISSING}{package.name}: npm ci did not fetch it")
    try:
        scratch.rename(folder)
    except OSError:
        shutil.rmtree(scratch)  # the other run was faster
