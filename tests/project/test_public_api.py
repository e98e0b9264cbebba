"""The public names: everything that a user meets can be imported from a public place."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import typing
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import postroom
from tests.project.sources import ROOT, code_blocks, documents

#: What a user may import from.
PUBLIC = (
    *("postroom", "postroom.schema", "postroom.testing", "postroom.typing"),
    *(f"postroom.integrations.{name}" for name in ("celery", "fastapi", "flask")),
)

#: Shown by what users call, and made by Postroom for itself.
INTERNAL = {
    "BytesSource": "an Attachment is made by its class methods",
    "ChunkSource": "the same",
    "FileSource": "the same",
    "PathSource": "the same",
    "WriterSource": "the same",
    "Candidates": "Template.first_of makes it",
    "Choice": "Template.first_of makes it",
    "Meter": "a RenderBudget makes it",
    "Templates": "an integration makes it of its framework's templates",
    "WorkerContext": "Outbox.worker makes it",
}


def exported() -> Iterator[tuple[str, Any]]:
    for name in postroom.__all__:
        if not name.startswith("__"):
            yield name, getattr(postroom, name)


def functions_of(name: str, one: Any) -> Iterator[tuple[str, Any]]:
    """Yield every public function of an exported name that is defined by us."""
    if inspect.isfunction(one):
        yield name, one
    elif inspect.isclass(one):
        for key, member in vars(one).items():
            found = getattr(member, "__func__", getattr(member, "fget", member))
            found = inspect.unwrap(found) if callable(found) else found
            if inspect.isfunction(found) and (not key.startswith("_") or key == "__init__"):
                yield f"{name}.{key}", found


def ours_in(hint: Any) -> Iterator[type]:
    """Yield every class of ours that an annotation names, however deep."""
    if isinstance(hint, list | tuple):
        for one in hint:
            yield from ours_in(one)
    for one in typing.get_args(hint):
        yield from ours_in(one)
    if isinstance(hint, type) and hint.__module__.split(".")[0] == "postroom":
        yield hint


def test_every_type_in_a_signature_can_be_imported() -> None:
    public = {
        id(getattr(module, name))
        for module in map(importlib.import_module, PUBLIC)
        for name in module.__all__
    }
    hidden = {
        f"{where} shows {kind.__name__}"
        for name, one in exported()
        for where, found in [
            *functions_of(name, one),
            *([(name, one)] if inspect.isclass(one) else []),
        ]
        if where != "Settings"
        for hint in typing.get_type_hints(found).values()
        for kind in ours_in(hint)
        if id(kind) not in public and kind.__name__ not in INTERNAL
    }
    assert hidden == set()


def imports_in(code: str) -> Iterator[tuple[str, str]]:
    """Yield module and name of every import from Postroom in a piece of code."""
    try:
        tree = ast.parse(code)
    except SyntaxError:  # a part of a file, as pages show it
        for module, names in re.findall(r"^from (postroom[\w.]*) import ([\w, ]+)$", code, re.M):
            yield from ((module, name.strip()) for name in names.split(","))
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "postroom":
            yield from ((node.module or "", alias.name) for alias in node.names)


def shown_code() -> Iterator[tuple[str, str]]:
    """Yield every example, by where it is."""
    for path, page in documents().items():
        yield from ((path, code) for code in code_blocks(page, "python", "py"))
    for path in sorted((ROOT / "examples").rglob("*.py")):
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")


def is_public(module: str, name: str) -> bool:
    if f"{module}.{name}" in PUBLIC:
        return True
    loaded: ModuleType = importlib.import_module(module)
    return module in PUBLIC and name in loaded.__all__


def test_examples_import_from_public_places_only() -> None:
    private = {
        f"{path}: from {module} import {name}"
        for path, code in shown_code()
        for module, name in imports_in(code)
        if not is_public(module, name)
    }
    assert private == set()


def described(docstring: str | None, *sections: str) -> set[str]:
    """Return the names that the sections of a docstring explain."""
    names: set[str] = set()
    inside = False
    lines = inspect.cleandoc(docstring or "").splitlines()
    for line in lines:
        if re.fullmatch(r"\w[\w ]*:", line):
            inside = line.removesuffix(":") in sections
        elif inside and (found := re.match(r" {4}(\*{0,2}\w+): \S", line)):
            names.add(found[1].lstrip("*"))
    return names


def commented(kind: type) -> set[str]:
    """Return the fields that have a comment for readers of the documentation before them."""
    try:
        source = inspect.getsource(kind)
    except (OSError, TypeError):
        return set()
    return set(re.findall(r"^ +#: .*\n +(\w+):", source, flags=re.MULTILINE))


def unexplained(name: str, one: Any) -> Iterator[str]:
    explained: set[str] = set()
    if inspect.isclass(one):
        explained = described(one.__doc__, "Args", "Attributes") | commented(one)
    if dataclasses.is_dataclass(one):
        fields = [field.name for field in dataclasses.fields(one) if not field.name.startswith("_")]
        yield from (f"{name}.{field}" for field in fields if field not in explained)
    for where, function in functions_of(name, one):
        is_made = where.endswith(".__init__")
        if is_made and function.__code__.co_filename == "<string>":
            continue  # a dataclass's: its parameters are the fields
        known = explained if is_made else described(function.__doc__, "Args")
        for parameter in inspect.signature(function).parameters:
            if parameter not in {"self", "cls"} and parameter not in known:
                yield f"{where}({parameter})"


def test_every_parameter_and_field_is_explained() -> None:
    missing = [
        one
        for name, found in exported()
        if name != "Settings"  # docs/settings.md explains each
        for one in unexplained(name, found)
        if not one.startswith("Worker.__init__")  # Outbox.worker makes it
    ]
    assert missing == []
