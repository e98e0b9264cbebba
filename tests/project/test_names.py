"""Names and sizes: what is public is complete and sorted, and nothing grows beyond a page."""

from __future__ import annotations

import ast
import importlib
import re
from typing import TypeAlias

import pytest

from tests.project.sources import Module, modules

#: What a user imports from.
PUBLIC = ("postroom", "postroom.testing")

MODULE_LINES = 600
FUNCTION_LINES = 45
FILES = 190

#: A module that one other module imports, and that is shorter than this, belongs into that one.
OWN_FILE_LINES = 60

#: Why a short module with a single user is a file all the same.
SHORT_MODULES = {
    "postroom.cli.demo.command": "the demo's parts are imported when it runs, not with the command",
    "postroom.cli.suppressions": "commands of one subject; `cli.app` only lists them",
    "postroom.storage.queue": "the package of the two databases' statements",
    "postroom.delivery.event_log": "what the log says of an outcome, apart from recording it",
}

Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_SAYS_LITTLE = re.compile(r"manager|helper|handler|util|(^|_)info$", re.IGNORECASE)


def order(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as ruff sorts them (RUF022)."""
    kind = 0 if name.isupper() else 1 if name[:1].isupper() else 2
    return kind, name


def declared(module: Module) -> list[str] | None:
    """Return the module's ``__all__``, or None."""
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def definitions(module: Module) -> list[Definition]:
    return [node for node in ast.walk(module.tree) if isinstance(node, Definition)]


def functions(module: Module) -> list[Definition]:
    return [node for node in definitions(module) if not isinstance(node, ast.ClassDef)]


def private_names(module: Module) -> set[str]:
    """Return the names with a leading underscore that the module binds at its top level."""
    bound = {
        node.id
        for statement in module.tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    bound |= {node.name for node in module.tree.body if isinstance(node, Definition)}
    return {name for name in bound if name.startswith("_") and not name.startswith("__")}


def used_names(module: Module) -> set[str]:
    return {
        node.id
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def importers() -> dict[str, set[str]]:
    """Return the modules that import each module, or a name of it."""
    names = {module.name for module in modules()}
    users: dict[str, set[str]] = {name: set() for name in names}
    for module in modules():
        for imported in module.imports():
            found = imported if imported in names else imported.rpartition(".")[0]
            if found in names - {module.name}:
                users[found].add(module.name)
    return users


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_package_says_what_is_public(name: str) -> None:
    assert declared(next(module for module in modules() if module.name == name))


def test_every_all_is_sorted_and_true() -> None:
    for module in modules():
        names = declared(module) or []
        assert names == sorted(set(names), key=order), module.name
        loaded = importlib.import_module(module.name) if names else None
        assert [name for name in names if not hasattr(loaded, name)] == [], module.name


def test_the_face_exports_everything_it_imports() -> None:
    face = next(module for module in modules() if module.name == "postroom")
    imported = {
        alias.asname or alias.name
        for node in face.tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("postroom")
        for alias in node.names
    }
    assert imported <= set(declared(face) or [])


def test_every_module_begins_with_what_it_promises() -> None:
    assert [module.name for module in modules() if not ast.get_docstring(module.tree)] == []


def test_a_module_is_a_page_or_two() -> None:
    long = {
        module.name: lines
        for module in modules()
        if (lines := len(module.path.read_text(encoding="utf-8").splitlines())) > MODULE_LINES
    }
    assert long == {}


def test_a_piece_of_one_module_is_in_that_module() -> None:
    users = importers()
    scattered = {
        module.name: users[module.name]
        for module in modules()
        if len(users[module.name]) == 1
        and len(module.path.read_text(encoding="utf-8").splitlines()) < OWN_FILE_LINES
    }
    assert scattered.keys() - SHORT_MODULES.keys() == set(), scattered


def test_the_house_is_not_scattered_over_more_and_more_files() -> None:
    assert len(modules()) <= FILES


def code_lines(function: Definition) -> int:
    """Count a function's lines without its docstring, which says as much as there is to say."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    said = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (function.end_lineno or 0) - function.lineno + 1 - said


def test_a_function_fits_on_a_screen() -> None:
    long = {
        f"{module.name}.{function.name}": lines
        for module in modules()
        for function in functions(module)
        if (lines := code_lines(function)) > FUNCTION_LINES
    }
    assert long == {}


def test_what_a_module_keeps_to_itself_is_used() -> None:
    unused = [
        f"{module.name}.{name}"
        for module in modules()
        for name in private_names(module) - used_names(module)
    ]
    assert unused == []


def test_every_name_says_something() -> None:
    names = {
        name
        for module in modules()
        for name in [*module.name.split("."), *(node.name for node in definitions(module))]
    }
    assert {name for name in names if _SAYS_LITTLE.search(name)} == set()
