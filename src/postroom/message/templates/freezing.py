"""From what an application gave to what is stored: a string, or a template frozen whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import jinja2
from jinja2 import meta, nodes

from postroom.errors import TemplateError
from postroom.message.html_text import inline_css
from postroom.message.templates.budget import Meter
from postroom.message.templates.environment import Templates, own_globals
from postroom.message.templates.errors import compiling
from postroom.message.templates.frozen import CompiledKey, FrozenTemplate
from postroom.message.templates.json_values import pack_json
from postroom.message.templates.rendering import render
from postroom.message.templates.sandbox import Sandbox, Syntax, syntax_of
from postroom.message.templates.template import STRING, Template

_Reference = nodes.Extends | nodes.Include | nodes.Import | nodes.FromImport
_REFERENCES = (nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredTemplate:
    """Templates of which one must exist (none has to, where not ``is_required``)."""

    names: tuple[str, ...]
    is_required: bool
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """The templates, filters and tests that a source names."""

    templates: tuple[RequiredTemplate, ...]
    filters: frozenset[str]
    tests: frozenset[str]


@lru_cache(maxsize=256)
def find_references(source: str, name: str, syntax: Syntax) -> References:
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
def undeclared_names(source: str, name: str, syntax: Syntax) -> frozenset[str]:
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


def _templates(tree: nodes.Template, name: str) -> Iterator[RequiredTemplate]:
    for node in tree.find_all(_REFERENCES):
        assert isinstance(node, _REFERENCES)  # find_all's type says no more than Node
        yield RequiredTemplate(
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


_NOTHING: Mapping[str, str] = MappingProxyType({})
#: What every worker has. What a template uses beyond it is frozen with it, or refused.
_EVERYWHERE = Sandbox(is_html=True)


def freeze(
    value: str | Template,
    templates: Templates,
    *,
    html: bool,
    has_variables: bool,
    inline: Mapping[str, str] = _NOTHING,
    meter: Meter | None = None,
) -> str | FrozenTemplate | None:
    """Return ``value`` as it is stored; nothing that happens to a file later changes it.

    A string is literal and never rendered. A template is rendered now, or frozen for delivery
    where recipients bring variables. ``inline`` maps the names of the message's inline
    attachments to their content ids. ``meter`` counts what rendering takes; without one it is what
    the templates' budget allows. None is returned only for the text or the HTML of a bundle that
    has just the other.

    Raises:
        TemplateError: the template is missing, or does not parse or render; or it is to be
            rendered at delivery and needs what only the application has.
        TemplateTooSlow: rendering takes more than the budget allows.
    """
    css = html and templates.inline_css
    if isinstance(value, str):
        return inline_css(value) if css else value
    found = templates.find(value, is_html=html)
    if found is None:
        return None
    if has_variables:
        return FrozenTemplate(
            program=_program(value, found.name or STRING, templates, is_html=html),
            context=json.dumps(pack_json(value.context, "the template's context")),
            inline=dict(inline),
            inline_css=css,
        )
    meter = meter or templates.budget.meter()
    output = render(found, {**templates.default_context(), **value.context}, inline, meter)
    return inline_css(output) if css else output


def _program(template: Template, entry: str, templates: Templates, *, is_html: bool) -> CompiledKey:
    syntax = syntax_of(templates.base)
    sources = _sources(template, entry, templates, syntax)
    used = [find_references(source, name, syntax) for name, source in sources.items()]
    _refuse_unavailable_at_delivery(templates.base, used, entry)
    names = frozenset[str]().union(
        *(undeclared_names(source, name, syntax) for name, source in sources.items())
    )
    frozen = {
        name: value
        for name, value in (own_globals(templates.base) | dict(templates.default_context())).items()
        if name in names and name not in template.context
    }
    return CompiledKey(
        entry=entry,
        sources=tuple(sorted(sources.items())),
        is_html=is_html,
        syntax=syntax,
        globals=json.dumps(pack_json(frozen, "the application's globals"), sort_keys=True),
    )


def _sources(
    template: Template, entry: str, templates: Templates, syntax: Syntax
) -> dict[str, str]:
    """Return the sources of the entry and of everything that it may need, by name."""
    sources: dict[str, str] = {}
    pending = [entry]
    while pending:
        name = pending.pop()
        is_string = name == STRING and template.source is not None
        source = template.source if is_string else templates.source(name)
        if source is None or name in sources:
            continue
        sources[name] = source
        for needed in find_references(source, name, syntax).templates:
            _require_one(needed, name, templates)
            pending.extend(needed.names)
    return sources


def _require_one(needed: RequiredTemplate, name: str, templates: Templates) -> None:
    if needed.is_required and all(templates.source(each) is None for each in needed.names):
        wanted = " or ".join(map(repr, needed.names))
        raise TemplateError(
            f"{name}, line {needed.line}: expected the template {wanted} to exist, got: no such "
            "file; check its name"
        )


def _refuse_unavailable_at_delivery(
    base: jinja2.Environment, used: list[References], entry: str
) -> None:
    """Refuse what is rendered at delivery but known to the application's environment only."""
    for kind in ("filters", "tests"):
        ours, theirs = getattr(_EVERYWHERE, kind), getattr(base, kind)
        for name in sorted(frozenset[str]().union(*(getattr(each, kind) for each in used))):
            if name in theirs and theirs[name] is not ours.get(name):
                raise TemplateError(
                    f"{entry}: expected only {kind} that every worker has, because recipients "
                    f"bring variables and it is rendered at delivery, got: {name!r}; apply it "
                    "to the context instead"
                )
    if base.finalize is not None:
        raise TemplateError(
            f"{entry}: expected an environment without finalize, because recipients bring "
            "variables and the template is rendered at delivery, got: one"
        )
