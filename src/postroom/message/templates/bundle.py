"""The template files of one kind of mail: subject, text and HTML, in the best language.

Text and HTML of a mail are always in the same language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from postroom.errors import TemplateError
from postroom.message.templates.template import Choice, Template
from postroom.text import shorten_repr


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSet:
    """The templates of one message; of ``text`` and ``html``, one may not exist.

    Attributes:
        subject: The template of the subject.
        text: The template of the plain text.
        html: The template of the HTML.
    """

    subject: Template
    text: Template
    html: Template


def template_set(
    name: str, *, locale: str | None = None, context: Mapping[str, Any]
) -> TemplateSet:
    """Return the templates with a common name; the files are chosen when they are frozen.

    ``template_set("order", locale="de_AT", context={})`` reads ``order.de_AT.subject.txt``,
    ``order.de_AT.txt`` and ``order.de_AT.html``. If one does not exist, ``.de`` and then no locale
    is tried. If only one of text and HTML exists in the better language, the other is left out.

    Args:
        name: The beginning of the file names.
        locale: The language, and the variable ``locale``, the default of the filters; None: files
            without a locale.
        context: The variables of the templates.

    Raises:
        TemplateError: The name or the locale cannot be part of a file name.
    """
    if not name or not isinstance(name, str):
        raise TemplateError(
            f"the name of the templates must be a file name, not {shorten_repr(name)}"
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
    """Return parts of file names by language, best first.

    ``zh_Hant_TW`` gives ``.zh_Hant_TW .zh_Hant .zh``, and then the empty one.
    """
    if not locale:
        return (("",),)
    if not isinstance(locale, str):
        raise TemplateError(f"the locale must be like de or de_AT, not {shorten_repr(locale)}")
    subtags = locale.replace("-", "_").split("_")
    if not all(subtag.isalnum() and subtag.isascii() for subtag in subtags):
        raise TemplateError(f"the locale must be like de or de_AT, not {shorten_repr(locale)}")
    locales = ("_".join(subtags[:length]) for length in range(len(subtags), 0, -1))
    return (tuple(f".{each}" for each in locales), ("",))
