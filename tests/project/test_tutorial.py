"""The tutorial shows the shop as it is."""

from __future__ import annotations

import re
from textwrap import indent

import pytest

from tests.project.sources import ROOT

PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```\w+ (\S+)\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)

#: A page shows a part of a function without the indentation that all of it has in the file.
INDENTATIONS = ("", " " * 4, " " * 8)


@pytest.mark.parametrize(("path", "block"), BLOCKS, ids=lambda value: value.partition("\n")[0])
def test_a_piece_of_code_stands_in_the_file_it_names(path: str, block: str) -> None:
    source = (ROOT / path).read_text(encoding="utf-8")
    assert any(f"\n{indent(block, before)}" in f"\n{source}" for before in INDENTATIONS)


def test_the_tutorial_shows_most_of_what_the_shop_mails() -> None:
    assert len(BLOCKS) > 15
    assert {path for path, _ in BLOCKS} >= {
        "examples/shop/mail.py",
        "examples/shop/orders.py",
        "examples/shop/booking.py",
    }
