"""The wheel: it builds, holds everything, and works with the core dependencies alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project.sources import ROOT, modules

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

#: Edges, and what nothing imports before somebody asks for an extra.
NOT_CORE = (
    "postroom.cli.",
    "postroom.integrations.",
    "postroom.storage.migrations",
    "postroom.testing",
    "postroom.message.templates.localized",
    "pytest_postroom",  # pytest's own entrance
)

#: Imports every module it is given; what is missing must be an extra that the error names.
_IMPORT_ALL = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        if "postroom[" not in str(error):
            raise
"""


#: As the bootstrap has it: the machine's own certificates, which a company's proxy signs with.
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ)
    if CERTIFICATES.exists():
        environment.setdefault("SSL_CERT_FILE", str(CERTIFICATES))
    words = list(map(str, command))
    return subprocess.run(
        words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def bare_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An interpreter whose environment holds the wheel and its core dependencies only."""
    uv = shutil.which("uv", path=f"{ROOT / '.bootstrap' / 'bin'}") or shutil.which("uv")
    assert uv is not None, "run scripts/bootstrap"
    venv = tmp_path_factory.mktemp("bare")
    made = run(uv, "venv", "--python", sys.executable, "--no-python-downloads", venv)
    assert made.returncode == 0, made.stderr
    python = venv / "bin" / "python"
    # The lock's versions, which the bootstrap has downloaded already.
    locked = ("--constraints", "requirements.lock")
    installed = run(uv, "pip", "install", "--python", python, *locked, wheel)
    assert installed.returncode == 0, installed.stderr
    yield python
    shutil.rmtree(venv)


def test_the_wheel_holds_every_module_and_the_typing_marker(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    expected = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "postroom").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected <= packed
    assert "postroom/py.typed" in packed
    assert not [name for name in packed if name.startswith("tests/")]


def test_the_core_imports_with_its_own_dependencies_alone(bare_python: Path) -> None:
    core = [module.name for module in modules() if not module.name.startswith(NOT_CORE)]
    done = run(bare_python, "-W", "error", "-c", _IMPORT_ALL, *core)
    assert done.returncode == 0, done.stderr


def test_the_command_without_its_extra_names_it(bare_python: Path) -> None:
    done = run(bare_python.with_name("postroom"), "--help")
    assert done.returncode != 0
    assert "postroom[cli]" in done.stderr
    assert "Traceback" not in done.stderr
