"""The sandbox every template runs in, at enqueue and at delivery."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2
from jinja2.environment import TemplateModule
from jinja2.ext import ExprStmtExtension, Extension, LoopControlExtension
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from postroom.values.template.errors import located
from postroom.values.template.filters import FILTERS
from postroom.values.template.rendering import inline

#: How a source is read, where it is not Jinja's default: option and value, sorted.
Syntax = tuple[tuple[str, str | bool | None], ...]

_SYNTAX = (
    "block_end_string",
    "block_start_string",
    "comment_end_string",
    "comment_start_string",
    "keep_trailing_newline",
    "line_comment_prefix",
    "line_statement_prefix",
    "lstrip_blocks",
    "newline_sequence",
    "trim_blocks",
    "variable_end_string",
    "variable_start_string",
)
_DEFAULT = jinja2.Environment(autoescape=True)


def syntax_of(environment: jinja2.Environment) -> Syntax:
    """Return how ``environment`` reads sources."""
    return tuple(
        (option, getattr(environment, option))
        for option in _SYNTAX
        if getattr(environment, option) != getattr(_DEFAULT, option)
    )


class _Compiled(jinja2.Template):
    """A template whose imports are evaluated anew for each rendering.

    Jinja evaluates an imported file once and keeps it: ``{% set logo = inline("logo.png") %}``
    there would leak one message's content id into the next message.
    """

    def _get_default_module(self, ctx: Context | None = None) -> TemplateModule:
        return self.make_module()


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, strict about undefined names, with our filters.

    ``{% do %}``, ``{% break %}`` and ``{% continue %}`` are known everywhere.

    It is the immutable one: recipients of one message share its context, and a template that
    changed a list would change it for those after.
    """

    template_class = _Compiled

    def __init__(
        self,
        *,
        is_html: bool,
        loader: jinja2.BaseLoader | None = None,
        syntax: Syntax = (),
        extensions: Sequence[type[Extension]] = (),
    ) -> None:
        """Escape output where ``is_html``; find what is included through ``loader``."""
        options: dict[str, Any] = dict(syntax)
        super().__init__(
            autoescape=is_html,
            loader=loader,
            undefined=jinja2.StrictUndefined,
            extensions=[ExprStmtExtension, LoopControlExtension, *extensions],
            **options,
        )
        self.filters.update(FILTERS)
        self.globals["inline"] = inline

    def compiled(self, source: str, name: str) -> jinja2.Template:
        """Return ``source`` compiled, called ``name`` in errors.

        Raises:
            TemplateError: it does not parse.
        """
        try:
            code = self.compile(source, name, name)
        except jinja2.TemplateSyntaxError as error:
            raise located(error, name) from error
        return self.template_class.from_code(self, code, self.make_globals(None))
