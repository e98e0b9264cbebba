"""A template that is frozen at enqueue and rendered for each recipient at delivery.

It contains everything it needs: at delivery no file is read and no application is asked.
"""

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

#: How many compiled templates a process keeps; a small one takes 12 KiB, and 3 ms to compile.
COMPILED = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledKey:
    """A template without its context: the key of the compiled template.

    Attributes:
        entry: The name of the template.
        sources: Name and source of it and of all that it includes, extends and imports, sorted.
        is_html: Whether the output is escaped.
        syntax: The options for reading sources that are not Jinja's defaults.
        globals: The plain globals of the application's environment, as JSON.
    """

    entry: str
    sources: tuple[tuple[str, str], ...]
    is_html: bool
    syntax: Syntax = ()
    globals: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenTemplate:
    """A template with everything it needs.

    Attributes:
        program: The template without its context.
        context: What `pack_json` returned, as JSON text: a database may reorder the keys of a JSON
            column, and templates iterate over dictionaries.
        inline: The content ids of inline attachments, by file name.
        inline_css: Whether style sheets are written into the elements of the output.
    """

    program: CompiledKey
    context: str
    inline: Mapping[str, str]
    inline_css: bool = False
    _variables: Mapping[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Unpack the context once for all recipients."""
        object.__setattr__(self, "_variables", unpack_json(json.loads(self.context)))

    def render(self, variables: Mapping[str, Any], meter: Meter | None = None) -> str:
        """Return the output for one recipient.

        Args:
            variables: The variables of the recipient, plain or from `pack_json`; they win over the
                context.
            meter: Counts what the rendering takes; None: a new one with the default budget.

        Raises:
            TemplateError: It cannot be rendered; the text names file and line.
            TemplateTooSlow: It takes more than the budget allows.
        """
        meter = meter or DEFAULT_BUDGET.meter()
        merged = {**self._variables, **unpack_json(dict(variables))}
        output = render(_compiled(self.program), merged, self.inline, meter)
        return inline_css(output) if self.inline_css else output

    def to_json(self) -> dict[str, Any]:
        """Return the template for `from_json`; equal templates give equal JSON."""
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
        """Return the template that `to_json` returned.

        Args:
            stored: What `to_json` returned.
        """
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
