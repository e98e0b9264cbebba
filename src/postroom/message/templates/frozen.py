"""A template frozen at enqueue, to be rendered for each recipient at delivery."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jinja2

from postroom.message.html_text import inline_css
from postroom.message.templates.budget import DEFAULT_BUDGET, Meter
from postroom.message.templates.errors import compiling
from postroom.message.templates.json_values import unpack_json
from postroom.message.templates.rendering import render
from postroom.message.templates.sandbox import Sandbox, Syntax

#: Templates kept compiled in a process; a small one takes 12 KiB and 3 ms to compile.
COMPILED = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledKey:
    """What a template is made of, apart from what it is given: the key of what is compiled."""

    entry: str
    #: Name and source of the entry and of all it includes, extends and imports, sorted.
    sources: tuple[tuple[str, str], ...]
    is_html: bool
    syntax: Syntax = ()
    #: Plain globals of the application's environment, as JSON.
    globals: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenTemplate:
    """A template with all it needs: no file is read and no application asked to render it.

    ``context`` is what ``pack`` made, as JSON: text, because a database may reorder the keys of
    what it knows to be JSON, and templates walk through dictionaries. ``inline`` maps names of
    inline attachments to their content ids.
    """

    program: CompiledKey
    context: str
    inline: Mapping[str, str]
    inline_css: bool = False
    _variables: Mapping[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Unpack the context once, not for each recipient."""
        object.__setattr__(self, "_variables", unpack_json(json.loads(self.context)))

    def render(self, variables: Mapping[str, Any], meter: Meter | None = None) -> str:
        """Return the output for one recipient, whose variables win over the context.

        ``variables`` may be as ``pack`` made them or plain. ``meter`` counts what it takes; without
        one it is what a `RenderBudget` allows by default.

        Raises:
            TemplateError: it does not render; the text names file and line.
            TemplateTooSlow: it takes more than its budget allows.
        """
        meter = meter or DEFAULT_BUDGET.meter()
        given = {**self._variables, **unpack_json(dict(variables))}
        output = render(_compiled(self.program), given, self.inline, meter)
        return inline_css(output) if self.inline_css else output

    def to_json(self) -> dict[str, Any]:
        """Return what ``from_json`` reads; equal templates give equal JSON."""
        program = self.program
        return {
            "entry": program.entry,
            "sources": dict(program.sources),
            "html": program.is_html,
            "syntax": dict(program.syntax),
            "globals": program.globals,
            "context": self.context,
            "inline": dict(self.inline),
            "inline_css": self.inline_css,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> FrozenTemplate:
        """Return the template that ``to_json`` described."""
        program = CompiledKey(
            entry=stored["entry"],
            sources=tuple(sorted(stored["sources"].items())),
            is_html=stored["html"],
            syntax=tuple(sorted(stored["syntax"].items())),
            globals=stored["globals"],
        )
        return cls(
            program=program,
            context=stored["context"],
            inline=stored["inline"],
            inline_css=stored["inline_css"],
        )


@lru_cache(maxsize=COMPILED)
def _compiled(program: CompiledKey) -> jinja2.Template:
    sandbox = Sandbox(
        is_html=program.is_html,
        loader=jinja2.FunctionLoader(dict(program.sources).get),
        syntax=program.syntax,
    )
    sandbox.globals.update(unpack_json(json.loads(program.globals)))
    with compiling(program.entry):
        return sandbox.get_template(program.entry)
