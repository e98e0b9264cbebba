"""The files of the repository, and what Python's parser sees in them."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One module of the package."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether this is a package's ``__init__``."""
        return self.path.name == "__init__.py"

    def imports(self) -> Iterator[str]:
        """Yield every imported module's full name, wherever in the file it stands."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{self.name}: imports are absolute"
                assert node.module is not None
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def attributes(self) -> Iterator[str]:
        """Yield every dotted name that is used."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute):
                yield ast.unparse(node)


@cache
def modules() -> tuple[Module, ...]:
    """Return every module of the package."""
    return tuple(
        Module(name=_module_name(path), path=path, tree=ast.parse(path.read_bytes()))
        for path in sorted(SRC.rglob("*.py"))
    )


def _module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tracked_files() -> tuple[Path, ...]:
    """Return every file that is, or is about to be, under version control."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    paths = {ROOT / name.decode() for name in listed.split(b"\0") if name}
    return tuple(sorted(path for path in paths if path.is_file()))


def documents() -> dict[str, str]:
    """Return every page of the documentation, by its path."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in pages}


def code_blocks(text: str, *languages: str) -> list[str]:
    """Return the fenced blocks of a page that are in one of ``languages``."""
    blocks = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [code for language, code in blocks if language in languages]
