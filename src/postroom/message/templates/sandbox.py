"""The sandbox every template runs in, at enqueue and at delivery."""

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
                f"expected Babel to be installed for the filter {name.removeprefix('format_')}, "
                "got: no such package; install postroom[locale]"
            ) from error
        text: str = getattr(localized, name)(*arguments, **options)
        return text

    return apply


#: By the name that templates know them by; what they take is in ``localized``.
FILTERS = {
    "money": _localized("money"),
    "date": _localized("format_date"),
    "time": _localized("format_time"),
    "datetime": _localized("format_datetime"),
}


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


class _Formatter(SandboxedFormatter):
    """``str.format`` whose widths are counted."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        metering.room(metering.format_size(value, format_spec))
        return super().format_field(value, format_spec)


class _EscapeFormatter(_Formatter, SandboxedEscapeFormatter):
    """The same for markup."""


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, strict about undefined names, with our filters, and metered.

    ``{% do %}``, ``{% break %}`` and ``{% continue %}`` are known everywhere.

    It is the immutable one: recipients of one message share its context, and a template that
    changed a list would change it for those after.
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
        return metering.held(result) if isinstance(result, list | tuple) else result

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
        return metering.held(result) if isinstance(result, list | tuple | dict) else result

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
