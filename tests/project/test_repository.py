"""The repository speaks of Postroom alone, and works wherever it is cloned."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.project.sources import ROOT, tracked_files

#: Put together here, so that this file does not name what it forbids.
_REGISTRIES = [
    "pypi" + ".org",
    "pythonhosted" + ".org",
    "npmjs" + ".org",
    "npmjs" + ".com",
    "deb" + ".debian.org",
    "archive" + ".ubuntu.com",
]
_FOLDERS = ["/" + folder + "/" for folder in ("work", "root", "opt")]

FORBIDDEN = {
    "a registry's host": re.compile("|".join(map(re.escape, _REGISTRIES))),
    # A path of somebody's machine; not the end of a longer one, nor of a URL.
    "a machine's path": re.compile(rf"(?<![\w.:/~}}$-])({'|'.join(map(re.escape, _FOLDERS))})\w"),
    "something left to do": re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"),
}


def text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in tracked_files()
        for number, line in enumerate((text_of(path) or "").splitlines(), start=1)
        if FORBIDDEN[what].search(line)
    ]
    assert not found, "\n".join(found)


def test_every_script_may_be_run() -> None:
    scripts = [path for path in tracked_files() if (text_of(path) or "").startswith("#!")]
    assert [path for path in scripts if not path.stat().st_mode & 0o100] == []
    assert len(scripts) >= 3
