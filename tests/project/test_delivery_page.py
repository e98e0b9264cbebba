"""The pictures on the page about delivery are those of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from postroom.states import TRANSITIONS
from tests.project.sources import ROOT, code_blocks, modules

PAGE = (ROOT / "docs" / "delivery.md").read_text(encoding="utf-8")
FLOW, STATES = code_blocks(PAGE, "mermaid")
PACKAGE = ROOT / "src" / "postroom"

#: What each box of the flow is called, and the file that is in it.
BOXES = dict(re.findall(r'\b(\w+)\["([^"]+)"\]', FLOW))


def defined() -> Iterator[str]:
    """Yield every class of the package, and every method as ``Class.method``."""
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                yield node.name
                for member in node.body:
                    if isinstance(member, ast.FunctionDef):
                        yield f"{node.name}.{member.name}"


def rows(heading: str) -> list[str]:
    """Return the first cells of the first table below a heading."""
    _, _, below = PAGE.partition(f"\n## {heading}\n")
    return re.findall(r"^\| `([^`|]+)` \|", below.partition("\n## ")[0], flags=re.MULTILINE)


def test_every_box_of_the_flow_is_a_file() -> None:
    assert len(BOXES) >= 18
    assert [path for path in BOXES.values() if not (PACKAGE / path).is_file()] == []


def test_every_arrow_of_the_flow_joins_two_boxes() -> None:
    plain = re.sub(r'\["[^"]+"\]', "", FLOW)
    arrow = r'^\s+(\w+) (?:<?-- "[^"]+" -->|-->) (\w+)'
    arrows = re.findall(arrow, plain, flags=re.MULTILINE)
    assert len(arrows) == len([line for line in plain.splitlines() if "--" in line])
    assert {end for ends in arrows for end in ends} == set(BOXES)


def test_the_table_below_the_flow_has_a_row_for_each_box() -> None:
    assert sorted(rows("The picture")) == sorted(BOXES.values())


def test_every_file_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`([\w/]+\.py)`", PAGE))
    homes = (ROOT, PACKAGE, PACKAGE / "storage" / "queue")
    assert {path for path in named if not any((home / path).is_file() for home in homes)} == set()


def test_every_class_and_method_on_the_walk_exists() -> None:
    _, _, walk = PAGE.partition("\n## The walk of one mail\n")
    named = set(re.findall(r"`([A-Z][a-z]+[A-Z]?\w*(?:\.\w+)?)s?`", walk.partition("\n## ")[0]))
    assert len(named) > 10
    assert named - set(defined()) == set()


def test_the_transitions_drawn_are_those_of_the_table() -> None:
    drawn = re.findall(r"^\s+(\w+) --> (\w+) :", STATES, flags=re.MULTILINE)
    table = [(before, after) for before, follow in TRANSITIONS.items() for after in follow]
    assert sorted(drawn) == sorted((str(before), str(after)) for before, after in table)


@pytest.mark.parametrize("line", ["[*] --> queued", "accepted --> [*]"])
def test_the_drawing_begins_with_queued_and_ends_with_accepted(line: str) -> None:
    assert line in STATES
    assert STATES.count("[*]") == 2


def test_every_state_has_a_row() -> None:
    assert rows("States") == [str(state) for state in TRANSITIONS]
