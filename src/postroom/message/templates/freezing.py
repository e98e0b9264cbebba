"""Turns a subject or body into what is stored: a string, or a frozen template.

Nothing that happens to a template file later changes a message that was enqueued.
"""

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
    """A reference to templates, the first existing one of which is used.

    Attributes:
        names: The names, best first.
        is_required: Whether one of them must exist.
        line: The line of the reference.
    """

    names: tuple[str, ...]
    is_required: bool
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """What a source refers to.

    Attributes:
        templates: The templates that it includes, extends or imports.
        filters: The names of its filters.
        tests: The names of its tests.
    """

    templates: tuple[RequiredTemplate, ...]
    filters: frozenset[str]
    tests: frozenset[str]


@lru_cache(maxsize=256)
def find_references(source: str, name: str, syntax: Syntax) -> References:
    """Return what a source refers to.

    Args:
        source: The source of a template.
        name: The name of the template, for errors.
        syntax: The options for reading it.

    Raises:
        TemplateError: It cannot be parsed, or computes the name of a template that it includes.
    """
    tree = _parse(source, name, syntax)
    return References(
        templates=tuple(_templates(tree, name)),
        filters=frozenset(node.name for node in tree.find_all(nodes.Filter)),
        tests=frozenset(node.name for node in tree.find_all(nodes.Test)),
    )


@lru_cache(maxsize=256)
def undeclared_names(source: str, name: str, syntax: Syntax) -> frozenset[str]:
    """Return the names that a source takes from its context or the environment's globals.

    Args:
        source: The source of a template.
        name: The name of the template, for errors.
        syntax: The options for reading it.

    Raises:
        TemplateError: It cannot be parsed, or uses an unknown filter or test.
    """
    tree = _parse(source, name, syntax)
    sandbox = tree.environment
    assert isinstance(sandbox, Sandbox)
    with compiling(name):
        try:
            # Metered, because this computes constant expressions.
            return frozenset(meta.find_undeclared_variables(sandbox.metered(tree)))
        except jinja2.TemplateSyntaxError as error:
            error.name = name  # Jinja leaves it out here
            raise


def _parse(source: str, name: str, syntax: Syntax) -> nodes.Template:
    sandbox = Sandbox(is_html=True, syntax=syntax)
    try:
        with compiling(name):
            return sandbox.parse(source, name)
    except TemplateError as error:
        raise TemplateError(
            f"{error} (it is rendered at delivery, without the extensions of the application's "
            "environment)"
        ) from error


def _templates(tree: nodes.Template, name: str) -> Iterator[RequiredTemplate]:
    for node in tree.find_all(_REFERENCES):
        assert isinstance(node, _REFERENCES)  # find_all is typed as Node
        yield RequiredTemplate(
            names=tuple(_names(node, name)),
            is_required=not getattr(node, "ignore_missing", False),
            line=node.lineno,
        )


def _names(node: _Reference, name: str) -> Iterator[str]:
    """Yield the template names of a reference: one, or a list of alternatives."""
    try:
        value = node.template.as_const()
    except nodes.Impossible:
        value = None
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(each, str) for each in names):
        raise TemplateError(
            f"{name}, line {node.lineno}: the name of an included template must be written out, "
            "not computed, because the recipients have variables and its source is frozen at "
            "enqueue"
        )
    yield from names


_NOTHING: Mapping[str, str] = MappingProxyType({})
#: What every worker has. Whatever else a template uses is frozen with it, or refused.
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
    """Return ``value`` as it is stored: a string, which is never rendered, or a template.

    Args:
        value: The subject, text or HTML.
        templates: Where templates are found.
        html: Whether it is the HTML.
        has_variables: Whether recipients have variables: if so, a template is frozen for delivery,
            otherwise it is rendered now.
        inline: The content ids of the message's inline attachments, by file name.
        meter: Counts what rendering takes; None: a new one with the budget of ``templates``.

    Returns:
        A string or a frozen template; None only for the text or HTML of a template set that has
        just the other one.

    Raises:
        TemplateError: The template does not exist or cannot be rendered; or it is rendered at
            delivery and needs something that only the application has.
        TemplateTooSlow: Rendering takes more than the budget allows.
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
    """Return the sources of the entry and of all templates that it may need, by name."""
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
            f"{name}, line {needed.line}: there is no template {wanted}; check its name"
        )


def _refuse_unavailable_at_delivery(
    base: jinja2.Environment, used: list[References], entry: str
) -> None:
    """Refuse filters and tests that only the application's environment has."""
    for kind in ("filters", "tests"):
        ours, theirs = getattr(_EVERYWHERE, kind), getattr(base, kind)
        for name in sorted(frozenset[str]().union(*(getattr(each, kind) for each in used))):
            if name in theirs and theirs[name] is not ours.get(name):
                raise TemplateError(
                    f"{entry}: workers do not have {name!r} among their {kind}, and the template "
                    "is rendered at delivery because the recipients have variables; apply it to "
                    "the context instead"
                )
    if base.finalize is not None:
        raise TemplateError(
            f"{entry}: the environment must not have finalize, because the recipients have "
            "variables and the template is rendered at delivery"
        )
