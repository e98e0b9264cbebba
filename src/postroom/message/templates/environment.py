"""Finds templates: in the folders, loader or Jinja environment of an outbox.

Whatever they come from, they run in our sandbox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import jinja2
from jinja2.defaults import DEFAULT_NAMESPACE

from postroom.errors import ConfigError, TemplateError
from postroom.message.templates.budget import DEFAULT_BUDGET, RenderBudget
from postroom.message.templates.errors import compiling
from postroom.message.templates.sandbox import Sandbox, syntax_of
from postroom.message.templates.template import STRING, Choice, Template
from postroom.text import shorten_repr

_Folder = str | PathLike[str]

#: What ``Outbox(templates=...)`` takes.
TemplatesLike = _Folder | Sequence[_Folder] | jinja2.BaseLoader | jinja2.Environment

_BARE = jinja2.Environment(autoescape=True)


class Templates:
    """The templates of an outbox, by name. Thread-safe.

    HTML is always escaped, also when it includes a ``.txt`` file; subjects and texts never are.

    Args:
        base: The environment to take loader, filters, tests, globals and syntax from.
        inline_css: Whether style sheets are written into the elements of all HTML.
        ambient: Returns default variables; it is called whenever a template is rendered or frozen.
            The context of a template wins over them.
        budget: What rendering one message may take at enqueue; None: the default.

    Attributes:
        base: The environment.
        inline_css: Whether style sheets are written into the elements of all HTML.
        default_context: Returns default variables.
        budget: What rendering one message may take at enqueue.
    """

    def __init__(
        self,
        base: jinja2.Environment,
        *,
        inline_css: bool = False,
        ambient: Callable[[], Mapping[str, Any]] = dict,
        budget: RenderBudget | None = None,
    ) -> None:
        """Read templates as ``base`` does."""
        self.base = base
        self.inline_css = inline_css
        self.default_context = ambient
        self.budget = budget or DEFAULT_BUDGET
        self._compiled = lru_cache(maxsize=256)(self._compile)

    @classmethod
    def of(
        cls,
        source: TemplatesLike | Templates | None,
        *,
        inline_css: bool = False,
        budget: RenderBudget | None = None,
    ) -> Templates:
        """Return the templates of a folder, several folders, a Jinja loader or environment.

        The loader, filters, tests, globals and syntax of an environment are taken over as they are
        at the first rendering. Sandbox, escaping and strictness are always ours.

        Args:
            source: Where the templates are; None or no folders: only `Template.from_string` works.
            inline_css: Whether style sheets are written into the elements of all HTML.
            budget: What rendering one message may take; None: the default.

        Raises:
            ConfigError: A folder does not exist, or ``source`` is something else.
        """
        if isinstance(source, Templates):
            return source
        if not isinstance(source, jinja2.Environment):
            source = jinja2.Environment(loader=_loader(source), autoescape=True)
        return cls(source, inline_css=inline_css, budget=budget)

    def find(self, template: Template, *, is_html: bool) -> jinja2.Template | None:
        """Return a compiled template; None if only its sibling exists.

        Args:
            template: The template.
            is_html: Whether its output is escaped.

        Raises:
            TemplateError: It does not exist, or cannot be compiled.
        """
        if template.source is not None:
            return self._compiled(template.source, is_html)
        for choice in template.choices:
            if (found := self._first(choice.names, is_html)) is not None:
                return found
            if self._first(choice.siblings, is_html) is not None:
                return None
        raise TemplateError(_missing(template.choices, self.base.loader))

    def source(self, name: str) -> str | None:
        """Return the source of a file; None if it does not exist.

        Args:
            name: The name of the file.
        """
        if self.base.loader is None:
            return None
        try:
            return self.base.loader.get_source(self.base, name)[0]
        except jinja2.TemplateNotFound:
            return None

    def _first(self, names: Sequence[str], is_html: bool) -> jinja2.Template | None:
        sandbox = self._sandboxes[is_html]
        for name in names if sandbox.loader is not None else ():
            try:
                with compiling(name):
                    return sandbox.get_template(name)
            except jinja2.TemplateNotFound:
                continue
            except (OSError, UnicodeError) as error:
                raise TemplateError(f"{name} cannot be read: {error}") from error
        return None

    def _compile(self, source: str, is_html: bool) -> jinja2.Template:
        return self._sandboxes[is_html].compiled(source, STRING)

    @cached_property
    def _sandboxes(self) -> dict[bool, Sandbox]:
        return {is_html: _sandbox_like(self.base, is_html=is_html) for is_html in (False, True)}


def _sandbox_like(base: jinja2.Environment, *, is_html: bool) -> Sandbox:
    """Return a sandbox that reads and renders like ``base``."""
    sandbox = Sandbox(
        is_html=is_html,
        loader=base.loader,
        syntax=syntax_of(base),
        extensions=[type(extension) for extension in base.extensions.values()],
    )
    sandbox.finalize = base.finalize
    # The options of extensions, such as newstyle_gettext; not their functions.
    for name in vars(base).keys() - vars(_BARE).keys():
        if not callable(getattr(base, name)):
            setattr(sandbox, name, getattr(base, name))
    sandbox.filters.update(base.filters)
    sandbox.tests.update(base.tests)
    sandbox.policies.update(base.policies)
    sandbox.globals.update(own_globals(base))
    return sandbox


def own_globals(base: jinja2.Environment) -> dict[str, object]:
    """Return the globals of ``base`` that are not Jinja's own, which the sandbox replaces.

    Args:
        base: The environment of the application.
    """
    return {
        name: value
        for name, value in base.globals.items()
        if value is not DEFAULT_NAMESPACE.get(name)
    }


def _loader(
    source: _Folder | Sequence[_Folder] | jinja2.BaseLoader | None,
) -> jinja2.BaseLoader | None:
    if source is None or isinstance(source, jinja2.BaseLoader):
        return source
    folders = [source] if isinstance(source, str | PathLike) else source
    if not isinstance(folders, list | tuple):
        raise ConfigError(
            "templates must be a folder, a list of folders, a Jinja loader or a Jinja "
            f"environment, not {shorten_repr(source)}"
        )
    for folder in folders:
        if not Path(folder).is_dir():
            raise ConfigError(
                f"the folder {fspath(folder)!r} of the templates does not exist; create it, or "
                f"give its path from the current folder ({Path.cwd()})"
            )
    return jinja2.FileSystemLoader([fspath(folder) for folder in folders]) if folders else None


def _missing(choices: Sequence[Choice], loader: jinja2.BaseLoader | None) -> str:
    wanted = " or ".join(
        repr(name) for choice in choices for name in (*choice.names, *choice.siblings)
    )
    if loader is None:
        return f"there is no template {wanted}: Outbox(templates=...) was not given"
    folders = getattr(loader, "searchpath", None)
    location = " or ".join(folders) if folders else type(loader).__name__
    return f"there is no template {wanted} in {location}; check its name"
