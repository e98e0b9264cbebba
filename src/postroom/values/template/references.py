"""What a template needs beside itself, found without running it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import jinja2
from jinja2 import meta, nodes

from postroom.values.errors import TemplateError
from postroom.values.template.errors import compiling
from postroom.values.template.sandbox import Sandbox, Syntax

_Reference = nodes.Extends | nodes.Include | nodes.Import | nodes.FromImport
_REFERENCES = (nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """Templates of which one must exist (none has to, where not ``is_required``)."""

    names: tuple[str, ...]
    is_required: bool
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """The templates, filters and tests that a source names."""

    templates: tuple[Needed, ...]
    filters: frozenset[str]
    tests: frozenset[str]


@lru_cache(maxsize=256)
def references(source: str, name: str, syntax: Syntax) -> References:
    """Return what ``source``, the template called ``name``, refers to.

    Raises:
        TemplateError: it does not parse, or computes the name of a template it includes.
    """
    tree = _tree(source, name, syntax)
    return References(
        templates=tuple(_templates(tree, name)),
        filters=frozenset(node.name for node in tree.find_all(nodes.Filter)),
        tests=frozenset(node.name for node in tree.find_all(nodes.Test)),
    )


@lru_cache(maxsize=256)
def undeclared(source: str, name: str, syntax: Syntax) -> frozenset[str]:
    """Return the names that ``source`` takes from its context or the environment's globals.

    Raises:
        TemplateError: it does not parse, or uses an unknown filter or test.
    """
    tree = _tree(source, name, syntax)
    sandbox = tree.environment
    assert isinstance(sandbox, Sandbox)
    with compiling(name):
        try:
            # Metered, because what is constant in it is computed for this.
            return frozenset(meta.find_undeclared_variables(sandbox.metered(tree)))
        except jinja2.TemplateSyntaxError as error:
            error.name = name  # Jinja does not tell its introspection what it looks at
            raise


def _tree(source: str, name: str, syntax: Syntax) -> nodes.Template:
    sandbox = Sandbox(is_html=True, syntax=syntax)
    try:
        with compiling(name):
            return sandbox.parse(source, name)
    except TemplateError as error:
        raise TemplateError(
            f"{error} (it is rendered at delivery, where no extensions of the "
            "application's environment are known)"
        ) from error


def _templates(tree: nodes.Template, name: str) -> Iterator[Needed]:
    for node in tree.find_all(_REFERENCES):
        assert isinstance(node, _REFERENCES)  # find_all's type says no more than Node
        yield Needed(
            names=tuple(_names(node, name)),
            is_required=not getattr(node, "ignore_missing", False),
            line=node.lineno,
        )


def _names(node: _Reference, name: str) -> Iterator[str]:
    """Yield the template names a reference holds: one, or a list of alternatives."""
    try:
        held = node.template.as_const()
    except nodes.Impossible:
        held = None
    names = [held] if isinstance(held, str) else held
    if not isinstance(names, list | tuple) or not all(isinstance(each, str) for each in names):
        raise TemplateError(
            f"{name}, line {node.lineno}: expected the name of an included template to be "
            "written out, because recipients bring variables and its source is frozen at "
            "enqueue, got: one that is computed"
        )
    yield from names
