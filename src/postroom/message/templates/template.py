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

    ``Template("order.html", order=order)`` names a file in the folders given to
    ``Outbox(templates=...)``; ``Template("order.html", {"order": order})`` says the same.

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

    Args:
        name: The file's name, as the folders, the loader or the environment know it.
        context: What the template's names stand for, as a mapping.
        **variables: The same by keyword; it wins over ``context``.

    Attributes:
        choices: The files that may be meant, the best first; empty for one made of a string.
        source: The template itself, where it was made of a string.
        context: What its names stand for, all together.

    Raises:
        TemplateError: The name is not a string, or empty; or ``context`` is not a mapping.
    """

    choices: tuple[Choice, ...]
    source: str | None
    context: Mapping[str, Any]

    def __init__(
        self, name: str, context: Mapping[str, Any] | None = None, /, **variables: Any
    ) -> None:
        """Name a file, and give it its context."""
        given: Any = name
        if not isinstance(given, str) or not given:
            raise TemplateError(
                f"the name of a template must be a file name, not {shorten_repr(name)}; for a "
                "template in a string, use Template.from_string"
            )
        _fill(self, choices=(Choice(names=(name,)),), context=_joined(context, variables))

    @classmethod
    def from_string(
        cls, source: str, context: Mapping[str, Any] | None = None, /, **variables: Any
    ) -> Template:
        """Return a template that is no file; it may include and extend files all the same.

        Args:
            source: The template itself.
            context: What its names stand for, as a mapping.
            **variables: The same by keyword; it wins over ``context``.

        Raises:
            TemplateError: ``source`` is not a string, or ``context`` is not a mapping.
        """
        if not isinstance(source, str):
            raise TemplateError(
                f"the source of a template must be a string, not {shorten_repr(source)}"
            )
        return _fill(object.__new__(cls), source=source, context=_joined(context, variables))

    @classmethod
    def first_of(cls, choices: tuple[Choice, ...], context: Mapping[str, Any]) -> Template:
        """Return a template that is the first of ``choices`` to exist when it is frozen.

        Args:
            choices: The files that may be meant, the best first.
            context: What its names stand for.
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


def _joined(context: Mapping[str, Any] | None, variables: Mapping[str, Any]) -> dict[str, Any]:
    given: Any = {} if context is None else context
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise TemplateError(
            f"the context of a template must be a mapping of names, not {shorten_repr(given)}"
        )
    return {**given, **variables}


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
