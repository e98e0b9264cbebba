"""The glossary has a line for every class and column, and the code uses its words only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from sqlalchemy import Table

from postroom.storage.tables import tables
from tests.project.sources import ROOT, Module, modules

PAGE = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")

#: The packages whose every public class has a line.
EXPLAINED = ("delivery", "relays", "smtp", "storage")

#: Words of no field but our own. The glossary has a better one for each.
PRIVATE_WORDS = {
    *("appetite", "bell", "berth", "blackboard", "books", "clapper", "courier", "deed", "desk"),
    *("holdings", "instruments", "ledger", "lingers", "mailbag", "office", "outlet", "papers"),
    *("premises", "shift", "strand", "tray", "wish"),
}


def named(page: str) -> set[str]:
    """Return every name in backticks, and the parts of dotted ones."""
    quoted = re.findall(r"`([^`]+)`", page)
    return {name for text in quoted for name in re.findall(r"\w+", text)}


def is_protocol(definition: ast.ClassDef) -> bool:
    return any("Protocol" in ast.unparse(base) for base in definition.bases)


def public_classes(module: Module) -> set[str]:
    return {
        node.name
        for node in module.tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        if not is_protocol(node)
    }


def section(table: str) -> str:
    """Return the glossary's section about a table."""
    (found,) = [
        part for part in PAGE.split("\n### ")[1:] if f"`{table}`" in part.partition("\n")[0]
    ]
    return found


def names_in(module: Module) -> Iterator[str]:
    """Yield the names that a module defines, takes, or sets."""
    yield module.name.rpartition(".")[2]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def words_of(name: str) -> set[str]:
    """Return the words of a name in snake_case or CamelCase, and each without a plural's s."""
    words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
    return words | {word.removesuffix("s") for word in words}


@pytest.mark.parametrize("package", EXPLAINED)
def test_every_public_class_has_a_line(package: str) -> None:
    classes = {
        name
        for module in modules()
        if module.name.startswith(f"postroom.{package}.")
        for name in public_classes(module)
    }
    assert len(classes) > 10
    assert classes - named(PAGE) == set()


def test_no_line_names_a_class_that_does_not_exist() -> None:
    defined = {
        node.name
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }
    in_the_code = re.findall(r"^\|[^|]*\|[^|]*\|([^|]*)\|$", PAGE, flags=re.MULTILINE)
    classes = {name for cell in in_the_code for name in re.findall(r"`([A-Z][a-z]\w+)", cell)}
    assert len(classes) > 50
    assert classes - defined == set()


@pytest.mark.parametrize("table", tables().metadata.sorted_tables, ids=str)
def test_every_column_has_a_line(table: Table) -> None:
    columns = {column.name for column in table.columns}
    assert columns - named(section(table.name)) == set()


def test_no_line_names_a_column_that_does_not_exist() -> None:
    for part in PAGE.split("\n### ")[1:]:
        title, _, body = part.partition("\n")
        known = {
            column.name
            for table in tables().metadata.sorted_tables
            if f"`{table.name}`" in title
            for column in table.columns
        }
        cells = re.findall(r"^\| (`[^|]*) \|", body, flags=re.MULTILINE)
        assert {column for cell in cells for column in named(cell)} - known == set(), title


def test_no_name_is_a_private_word() -> None:
    found = {
        f"{module.name}: {name}"
        for module in modules()
        for name in names_in(module)
        if words_of(name) & PRIVATE_WORDS
    }
    assert found == set()


@pytest.mark.parametrize(
    ("name", "words"),
    [("OutcomeDesk", {"outcome", "desk"}), ("_desks", {"desks", "desk"}), ("SMTPShift", {"shift"})],
)
def test_a_name_falls_into_its_words(name: str, words: set[str]) -> None:
    assert words <= words_of(name)
