"""The files of one kind of mail: subject, text and HTML, in the best language there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from postroom.errors import TemplateError
from postroom.message.templates.template import Choice, Template
from postroom.text import shorten_repr


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSet:
    """The templates of one message. Of ``text`` and ``html``, one may turn out not to exist."""

    subject: Template
    text: Template
    html: Template


def template_set(
    name: str, *, locale: str | None = None, context: Mapping[str, Any]
) -> TemplateSet:
    """Return the templates called ``name``; which files they are is decided when frozen.

    ``bundle("order", locale="de_AT")`` reads ``order.de_AT.subject.txt``, ``order.de_AT.txt``
    and ``order.de_AT.html``, each falling back to ``.de`` and then to no locale at all. Text and
    HTML are always of one language: where there is only one of them in the better language, the
    other is left out. The locale is also a variable, the default of the filters.

    Raises:
        TemplateError: name or locale is no part of a file name.
    """
    if not name or not isinstance(name, str):
        raise TemplateError(
            f"expected the name of the templates to be a file name, got: {shorten_repr(name)}"
        )
    languages = _languages(locale)
    variables = {"locale": locale, **context} if locale else context
    return TemplateSet(
        subject=_part(name, languages, variables, ".subject.txt"),
        text=_part(name, languages, variables, ".txt", beside=".html"),
        html=_part(name, languages, variables, ".html", beside=".txt"),
    )


def _part(
    name: str,
    languages: tuple[tuple[str, ...], ...],
    context: Mapping[str, Any],
    suffix: str,
    beside: str | None = None,
) -> Template:
    choices = tuple(
        Choice(
            names=tuple(f"{name}{locale}{suffix}" for locale in language),
            siblings=tuple(f"{name}{locale}{beside}" for locale in language) if beside else (),
        )
        for language in languages
    )
    return Template.first_of(choices, context)


def _languages(locale: str | None) -> tuple[tuple[str, ...], ...]:
    """Return file name parts, best first: those of one language together.

    ``zh_Hant_TW`` gives ``.zh_Hant_TW .zh_Hant .zh``, and then none.
    """
    if not locale:
        return (("",),)
    if not isinstance(locale, str):
        raise TemplateError(
            f"expected the locale to be one like de or de_AT, got: {shorten_repr(locale)}"
        )
    subtags = locale.replace("-", "_").split("_")
    if not all(subtag.isalnum() and subtag.isascii() for subtag in subtags):
        raise TemplateError(
            f"expected the locale to be one like de or de_AT, got: {shorten_repr(locale)}"
        )
    spelled = ("_".join(subtags[:length]) for length in range(len(subtags), 0, -1))
    return (tuple(f".{each}" for each in spelled), ("",))
