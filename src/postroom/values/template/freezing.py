"""From what an application gave to what is stored: a string, or a template frozen whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

import jinja2

from postroom.values.css import inlined
from postroom.values.errors import TemplateError
from postroom.values.template.budget import Meter
from postroom.values.template.environment import Templates, own_globals
from postroom.values.template.jsonable import pack
from postroom.values.template.references import Needed, References, references, undeclared
from postroom.values.template.rendering import render
from postroom.values.template.sandbox import Sandbox, Syntax, syntax_of
from postroom.values.template.source import Program, TemplateSource
from postroom.values.template.template import STRING, Template

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
) -> str | TemplateSource | None:
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
        return inlined(value) if css else value
    found = templates.find(value, is_html=html)
    if found is None:
        return None
    if has_variables:
        return TemplateSource(
            program=_program(value, found.name or STRING, templates, is_html=html),
            context=json.dumps(pack(value.context, "the template's context")),
            inline=dict(inline),
            inline_css=css,
        )
    meter = meter or templates.budget.meter()
    output = render(found, {**templates.ambient(), **value.context}, inline, meter)
    return inlined(output) if css else output


def _program(template: Template, entry: str, templates: Templates, *, is_html: bool) -> Program:
    syntax = syntax_of(templates.base)
    sources = _sources(template, entry, templates, syntax)
    used = [references(source, name, syntax) for name, source in sources.items()]
    _refuse_what_stays_behind(templates.base, used, entry)
    names = frozenset[str]().union(
        *(undeclared(source, name, syntax) for name, source in sources.items())
    )
    frozen = {
        name: value
        for name, value in (own_globals(templates.base) | dict(templates.ambient())).items()
        if name in names and name not in template.context
    }
    return Program(
        entry=entry,
        sources=tuple(sorted(sources.items())),
        is_html=is_html,
        syntax=syntax,
        globals=json.dumps(pack(frozen, "the application's globals"), sort_keys=True),
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
        for needed in references(source, name, syntax).templates:
            _require_one(needed, name, templates)
            pending.extend(needed.names)
    return sources


def _require_one(needed: Needed, name: str, templates: Templates) -> None:
    if needed.is_required and all(templates.source(each) is None for each in needed.names):
        wanted = " or ".join(map(repr, needed.names))
        raise TemplateError(
            f"{name}, line {needed.line}: expected the template {wanted} to exist, got: no such "
            "file; check its name"
        )


def _refuse_what_stays_behind(base: jinja2.Environment, used: list[References], entry: str) -> None:
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
