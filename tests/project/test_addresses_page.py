"""The page about addresses shows the errors and the forms that the code gives."""

from __future__ import annotations

import re

import pytest

from postroom import Address, InvalidAddress
from tests.project.sources import ROOT, code_blocks

PAGE = (ROOT / "docs" / "addresses.md").read_text(encoding="utf-8")
(WRITTEN,) = re.findall(r"^\| \| for `(.+)` \| \|$", PAGE, flags=re.MULTILINE)


def shown(row: str) -> str:
    """Return what the page shows in one row of the first table."""
    (value,) = re.findall(rf"^\| {row} \| `(.+?)` \|", PAGE, flags=re.MULTILINE)
    return str(value)


def test_the_error_is_the_one_that_is_raised() -> None:
    (error,) = code_blocks(PAGE, "")
    (address,) = re.findall(r"'([^']+)'", error)
    with pytest.raises(InvalidAddress, match=f"^{re.escape(error.strip())}$"):
        Address(address)


def test_an_address_becomes_what_the_page_shows() -> None:
    address = Address(WRITTEN)
    assert address.addr_spec == shown("as written")
    assert address.envelope == shown("in the envelope")
    assert address.dedup_key == shown("the address key")


def test_the_text_of_an_address_is_read_back() -> None:
    assert f'`Address("{WRITTEN}")`' in PAGE
    assert Address(str(Address(WRITTEN))) == Address(WRITTEN)
