"""The page about the tables speaks of every one."""

from __future__ import annotations

from postroom.storage.schema import VERSION_TABLE
from postroom.storage.tables import tables
from tests.project.sources import ROOT

PAGE = (ROOT / "docs" / "schema.md").read_text(encoding="utf-8")


def test_every_table_is_described() -> None:
    names = {table.name for table in tables().metadata.tables.values()} | {VERSION_TABLE}
    assert {name for name in names if f"`{name}`" not in PAGE} == set()
