"""The template of a subject or body, as an application names it, with its context.

It is only a value: nothing is read, parsed or rendered before ``freeze`` (see ``freezing``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from postroom.errors import TemplateError
from postroom.text import shorten_repr

#: The name of a template from a string, in errors and tracebacks.
STRING = "<string>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """File names for one part of a message in one language, best first.

    If none of ``names`` exists but one of ``siblings`` does, the part is left out, and no further
    choice is tried: a German HTML body gets no English text.

    Attributes:
        names: The file names, best first.
        siblings: The file names of the other part (HTML or text) in the same language.
    """

    names: tuple[str, ...]
    siblings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Template:
    """A subject or body that Jinja renders, in its sandbox.

    ``Template("order.html", order=order)`` names a file in the folders of
    ``Outbox(templates=...)``.

    It is rendered when the message is enqueued. If recipients have variables of their own, its
    sources and context are frozen instead, and it is rendered for each of them at delivery. In both
    cases, editing the file later changes no mail that is already enqueued.

    Args:
        name: The name of the file.
        context: The variables of the template.

    Attributes:
        choices: The file names to try, best first; empty for a template from a string.
        source: The source of a template from a string; None for a file.
        context: The variables of the template.

    Raises:
        TemplateError: The name is not a string, or empty.
    """

    choices: tuple[Choice, ...]
    source: str | None
    context: Mapping[str, Any]

    def __init__(self, name: str, /, **context: Any) -> None:
        """Make a template from a file."""
        checked: Any = name
        if not isinstance(checked, str) or not checked:
            raise TemplateError(
                f"the name of a template must be a file name, not {shorten_repr(name)}; for a "
                "template in a string, use Template.from_string"
            )
        _fill(self, choices=(Choice(names=(name,)),), context=context)

    @classmethod
    def from_string(cls, source: str, /, **context: Any) -> Template:
        """Return a template from a string; it can include and extend files.

        Args:
            source: The source of the template.
            context: The variables of the template.

        Raises:
            TemplateError: ``source`` is not a string.
        """
        if not isinstance(source, str):
            raise TemplateError(
                f"the source of a template must be a string, not {shorten_repr(source)}"
            )
        return _fill(object.__new__(cls), source=source, context=context)

    @classmethod
    def first_of(cls, choices: tuple[Choice, ...], context: Mapping[str, Any]) -> Template:
        """Return a template that is the first of ``choices`` that exists when it is frozen.

        Args:
            choices: The choices, best first.
            context: The variables of the template.
        """
        return _fill(object.__new__(cls), choices=choices, context=context)

    @property
    def name(self) -> str:
        """Return the first file name to try, or ``<string>``."""
        return STRING if self.source is not None else self.choices[0].names[0]

    def __repr__(self) -> str:
        """Show the name and the names of the variables; their values may be secret."""
        variables = "".join(f", {key}=…" for key in self.context)
        return f"Template({self.name!r}{variables})"


def _fill(
    template: Template,
    *,
    context: Mapping[str, Any],
    choices: tuple[Choice, ...] = (),
    source: str | None = None,
) -> Template:
    """Set the fields of a frozen template."""
    object.__setattr__(template, "choices", choices)
    object.__setattr__(template, "source", source)
    object.__setattr__(template, "context", MappingProxyType(dict(context)))
    return template
