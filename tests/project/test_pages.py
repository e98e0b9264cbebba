"""Pages are plain text to read and to review: short lines, and the words of the glossary."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.project.sources import ROOT, documents
from tests.project.test_glossary import PRIVATE_WORDS

COLUMNS = 100

#: Written by the bench.
_GENERATED = re.compile(r"^docs/benchmarks(/|\.md)")
#: Private words that are also English, and may occur in a sentence.
_ENGLISH = {"bell", "books", "desk", "office", "papers", "shift", "tray", "wish"}
#: Rows of tables, and pictures: they cannot be broken.
_WHOLE = re.compile(r"^(\||!\[)")

PAGES = {
    **{path: page for path, page in documents().items() if not _GENERATED.match(path)},
    **{
        name: (ROOT / name).read_text(encoding="utf-8")
        for name in ("CONTRIBUTING.md", "CHANGELOG.md")
    },
}


def prose(page: str) -> Iterator[tuple[int, str]]:
    """Yield each line of a page that is not in a block of code, and its number."""
    in_code = False
    for number, line in enumerate(page.splitlines(), start=1):
        if line.startswith("```"):
            in_code = not in_code
        elif not in_code:
            yield number, line


def longest_word(line: str) -> int:
    """Return the length of the longest piece that no line break may go into."""
    pieces = re.sub(r"`[^`]*`", lambda code: "x" * len(code[0]), line).split()
    return max(map(len, pieces), default=0)


@pytest.mark.parametrize("path", PAGES)
def test_no_line_is_longer_than_it_has_to_be(path: str) -> None:
    long = [
        f"{path}:{number}"
        for number, line in prose(PAGES[path])
        if len(line) > COLUMNS and not _WHOLE.match(line) and longest_word(line) < 80
    ]
    assert long == []


@pytest.mark.parametrize("path", PAGES)
def test_no_page_has_a_private_word(path: str) -> None:
    words = set(re.findall(r"[a-z]+", PAGES[path].lower()))
    assert words & PRIVATE_WORDS - _ENGLISH == set()


def anchors(page: str) -> set[str]:
    """Return what links may say after the #, as GitHub makes it of the headings."""
    headings = (line.lstrip("#") for _, line in prose(page) if re.match(r"#+ ", line))
    return {re.sub(r"[^\w\- ]", "", one.strip().lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("path", PAGES)
def test_every_link_to_a_heading_leads_to_one(path: str) -> None:
    text = "\n".join(line for _, line in prose(PAGES[path]))
    links = re.findall(r"\]\((?!\w+:)([^)#\s]*)#([^)\s]+)\)", text)
    folder = (ROOT / path).parent
    missing = []
    for target, anchor in links:
        page = (folder / target if target else ROOT / path).read_text(encoding="utf-8")
        if anchor not in anchors(page):
            missing.append(f"{target}#{anchor}")
    assert missing == []
