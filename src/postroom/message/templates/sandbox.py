"""The sandbox in which every template runs, at enqueue and at delivery.

A template can read what it is given, and change or reach nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jinja2
from jinja2.environment import TemplateModule
from jinja2.ext import ExprStmtExtension, Extension, LoopControlExtension
from jinja2.nodes import EvalContext
from jinja2.nodes import Template as Tree
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import (
    ImmutableSandboxedEnvironment,
    SandboxedEscapeFormatter,
    SandboxedFormatter,
)
from markupsafe import Markup

from postroom.errors import ConfigError
from postroom.message.templates import metering
from postroom.message.templates.errors import compiling
from postroom.message.templates.rendering import inline_url, meter


def _localized(name: str) -> Callable[..., str]:
    def apply(*arguments: Any, **options: Any) -> str:
        try:
            from postroom.message.templates import localized  # noqa: PLC0415  needs an extra
        except ImportError as error:
            raise ConfigError(
                f"the filter {name.removeprefix('format_')} needs the locale extra; run: pip "
                "install 'postroom[locale]'"
            ) from error
        text: str = getattr(localized, name)(*arguments, **options)
        return text

    return apply


#: The filters by their names in templates; see ``localized`` for their arguments.
FILTERS = {
    "money": _localized("money"),
    "date": _localized("format_date"),
    "time": _localized("format_time"),
    "datetime": _localized("format_datetime"),
}


#: The options for reading a source that are not Jinja's defaults: name and value, sorted.
Syntax = tuple[tuple[str, str | bool | None], ...]

_SYNTAX_OPTIONS = (
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
_DEFAULT_ENVIRONMENT = jinja2.Environment(autoescape=True)


def syntax_of(environment: jinja2.Environment) -> Syntax:
    """Return the options with which ``environment`` reads sources.

    Args:
        environment: The environment of the application.
    """
    return tuple(
        (option, getattr(environment, option))
        for option in _SYNTAX_OPTIONS
        if getattr(environment, option) != getattr(_DEFAULT_ENVIRONMENT, option)
    )


class _Compiled(jinja2.Template):
    """A template that evaluates its imports for each rendering.

    Jinja evaluates an imported file once: ``{% set logo = inline("logo.png") %}`` in it would use
    the content id of one message in the next one.
    """

    def _get_default_module(self, ctx: Context | None = None) -> TemplateModule:
        return self.make_module()


class _Formatter(SandboxedFormatter):
    """``str.format`` that counts what it writes."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        metering.reserve(metering.format_size(value, format_spec))
        return super().format_field(value, format_spec)


class _EscapeFormatter(_Formatter, SandboxedEscapeFormatter):
    """``str.format`` for markup that counts what it writes."""


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox with our filters; undefined names are errors, and it is metered.

    Immutable, because the recipients of a message share its context: a template that changed a list
    would change it for the next recipients. ``{% do %}``, ``{% break %}`` and ``{% continue %}``
    are always available.

    Args:
        is_html: Whether output is escaped.
        loader: Finds the templates that are included; None: there are none.
        syntax: The options for reading sources.
        extensions: Further extensions of Jinja.
    """

    template_class = _Compiled
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(
        self,
        *,
        is_html: bool,
        loader: jinja2.BaseLoader | None = None,
        syntax: Syntax = (),
        extensions: Sequence[type[Extension]] = (),
    ) -> None:
        """Make a sandbox."""
        options: dict[str, Any] = dict(syntax)
        super().__init__(
            autoescape=is_html,
            loader=loader,
            undefined=jinja2.StrictUndefined,
            extensions=[ExprStmtExtension, LoopControlExtension, *extensions],
            **options,
        )
        self.filters.update(FILTERS)
        self.filters.update(metering.FILTERS)
        self.globals["inline"] = inline_url
        self.globals["lipsum"] = metering.lorem_ipsum

    def compiled(self, source: str, name: str) -> jinja2.Template:
        """Return ``source`` compiled, called ``name`` in errors.

        Raises:
            TemplateError: it does not parse.
        """
        with compiling(name):
            code = self.compile(source, name, name)
        return self.template_class.from_code(self, code, self.make_globals(None))

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Join what a macro or block wrote."""
        return meter().joined(pieces)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute what has a bound."""
        metering.check_operation(operator, left, right)
        result = self.binop_table[operator](left, right)
        return metering.checked_size(result) if isinstance(result, list | tuple) else result

    def call_filter(
        self,
        name: str,
        value: Any,
        args: Sequence[Any] | None = None,
        kwargs: Any = None,
        context: Context | None = None,
        eval_ctx: EvalContext | None = None,
    ) -> Any:
        """Apply a filter that is named at run time, as ``map`` does."""
        metered = metering.metered_name(name, self.filters)
        return super().call_filter(metered, value, args, kwargs, context, eval_ctx)

    # Jinja's own names begin with two underscores, so that keyword arguments meet none of them.
    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call a function, a macro or a method: a step."""
        meter().spend()
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str | bytes | int):
            given = [*args, *kwargs.values()]
            checked = metering.checked_arguments(__obj.__name__, owner, given)
            args = args if kwargs else tuple(checked)
        elif isinstance(__obj, LoopContext) and args:
            args = (metering.counted(args[0]), *args[1:])
        result = super().call(__context, __obj, *args, **kwargs)
        return metering.checked_size(result) if isinstance(result, list | tuple | dict) else result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return ``str.format`` with what it writes counted."""
        if super().wrap_str_format(value) is None:
            return None
        text = value.__self__
        is_markup = isinstance(text, Markup)
        formatter = _EscapeFormatter(self, escape=text.escape) if is_markup else _Formatter(self)

        def formatted(*args: Any, **kwargs: Any) -> str:
            if value.__name__ == "format_map":
                args, kwargs = (), *args
            written: str = type(text)(formatter.vformat(text, args, kwargs))
            return written

        return formatted

    def _generate(
        self, source: Tree, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        return super()._generate(self.metered(source), name, filename, defer_init)

    def metered(self, tree: Tree) -> Tree:
        """Return a syntax tree, which is changed, that counts what it does."""
        changed: Tree = metering.Metered(metering.metered_filters(self.filters)).visit(tree)
        changed.set_environment(self)
        return changed
