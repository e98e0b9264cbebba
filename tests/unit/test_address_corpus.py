"""Addresses that four public validators judge: where they agree, so do we."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from postroom.errors import InvalidAddress
from postroom.message.address import Address

ROOT = Path(__file__).parents[2]
CORPUS = ROOT.parent / "shared" / "corpora" / "addresses.json"

#: The forms that docs/addresses.md says are refused on purpose: what they look like, in the words
#: of the page, and the reason that the error gives.
REFUSED_FORMS = {
    "Quoted local parts": (r'(^|<)"', "quoted local parts"),
    "Comments": (r"\(", "comments are not part|at position|longer than 63"),
    "Domain literals": (r"@\[", "domain literals"),
    "Backslashes": (r"\\", "cannot stand there|one address at a time"),
    "Domains of one label": (r"@[^.@]+$", "no dot"),
    "Top-level domains with digits or hyphens": (r"\.[^.]*[0-9-][^.]*$", "top-level domain"),
    "Underscores in domains": (r"@.*_", "no host name has"),
    "Symbols in domains": (r"@[^a-z]", "IDNA 2008"),
    "Other punctuation in local parts": (r"^＠", "cannot stand there"),
    "Exclamation marks in domains": (r"@.*!", "no host name has"),
}
#: One source judges with names switched off: those are no addresses that it calls wrong.
NAMES_OFF = ("A display name and angle brackets", "The display name contains invalid characters")


def cases(verdict: str) -> list[Any]:
    if not CORPUS.exists():
        return [
            pytest.param(None, marks=pytest.mark.skip("the corpus is not beside the repository"))
        ]
    rows = json.loads(CORPUS.read_text(encoding="utf-8"))
    return [
        pytest.param(row, id=f"{row['source']}-{row['id']}")
        for row in rows
        if row["unanimous"] and row["verdict"] == verdict
    ]


@pytest.mark.parametrize("row", cases("invalid"))
def test_what_all_call_invalid_is_refused(row: dict[str, Any]) -> None:
    is_name = row.get("why", "").startswith(NAMES_OFF) and not row["address"].startswith("<")
    if is_name:
        assert Address(row["address"]).name
        return

    with pytest.raises(InvalidAddress):
        Address(row["address"])


@pytest.mark.parametrize("row", cases("valid"))
def test_what_all_call_valid_reads_back_or_is_of_a_form_refused_on_purpose(
    row: dict[str, Any],
) -> None:
    text = row["address"]
    try:
        address = Address(text)
    except InvalidAddress as error:
        if refused_form(text, str(error)):
            return
        raise
    assert Address(address.addr_spec).dedup_key == address.dedup_key
    if "normalized" in row:
        assert address.addr_spec == row["normalized"]
    if "ascii_domain" in row:
        assert address.ascii_domain == row["ascii_domain"]
    if "local" in row:
        assert address.local == row["local"]


def refused_form(text: str, error: str) -> str | None:
    return next(
        (
            name
            for name, (looks, reason) in REFUSED_FORMS.items()
            if re.search(looks, text) and re.search(reason, error)
        ),
        None,
    )


def test_every_form_refused_on_purpose_is_documented_with_its_reason() -> None:
    page = (ROOT / "docs" / "addresses.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| \*\*(.+?)\*\* \| `(.+?)` \| .+ \|$", page, re.MULTILINE)

    assert {name for name, _ in documented} >= REFUSED_FORMS.keys()
    for _, example in documented:
        with pytest.raises(InvalidAddress):
            Address(example)
