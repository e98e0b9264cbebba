"""The page for contributors shows the layers that the test of layers holds."""

from __future__ import annotations

import re

from tests.project.sources import ROOT
from tests.project.test_layers import FLOORS

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "src" / "postroom"

#: What each row of the table names as its modules.
LAYERS = {
    layer: re.findall(r"`([\w/]+)`", listed)
    for layer, listed in re.findall(r"^\| ([a-z ]+) \| ([^|]*`[^|]*) \|", PAGE, flags=re.MULTILINE)
}


def test_every_floor_is_a_row_of_the_table() -> None:
    named = {name.strip("/").replace("/", ".") for names in LAYERS.values() for name in names}
    assert set(FLOORS) - named == set()


def test_every_module_in_the_table_exists() -> None:
    assert len(LAYERS) == 8
    names = [name for names in LAYERS.values() for name in names]
    assert [
        name
        for name in names
        if not (PACKAGE / name).is_dir() and not (PACKAGE / f"{name}.py").is_file()
    ] == []


def test_every_file_that_the_page_names_exists() -> None:
    files = re.findall(r"`((?:storage|relays|smtp|tests)/[\w/]+\.py)`", PAGE)
    assert len(files) > 5
    assert [
        file for file in files if not any((home / file).is_file() for home in (ROOT, PACKAGE))
    ] == []
