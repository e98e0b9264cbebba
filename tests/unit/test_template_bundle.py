"""Bundles: subject, text and HTML of one name, in the best language there is."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.errors import TemplateError
from postroom.message.message import Message
from postroom.message.templates import Template, Templates, TemplateSet, freeze, template_set
from tests.unit.templates import folder

SUBJECT, TEXT, HTML = "{{ n }} subject", "{{ n }} text", "{{ n }} html"


def parts(found: TemplateSet, templates: Templates) -> tuple[Any, ...]:
    return tuple(
        freeze(part, templates, html=part is found.html, has_variables=False)
        for part in (found.subject, found.text, found.html)
    )


def named(*names: str) -> Templates:
    """Return templates that say their own names."""
    templates = folder()
    templates.base.loader.mapping.update({name: name for name in names})
    return templates


def test_a_bundle_is_three_files() -> None:
    found = template_set("order", context={"n": 1})
    templates = named("order.subject.txt", "order.txt", "order.html")
    assert parts(found, templates) == ("order.subject.txt", "order.txt", "order.html")


@pytest.mark.parametrize("locale", ["de_AT", "de-AT"])
def test_a_part_falls_back_to_its_language_and_then_to_none(locale: str) -> None:
    found = template_set("order", locale=locale, context={})
    templates = named(
        "order.subject.txt", "order.de_AT.txt", "order.de.txt", "order.de.html", "order.html"
    )
    assert parts(found, templates) == ("order.subject.txt", "order.de_AT.txt", "order.de.html")


def test_scripts_are_part_of_a_locale() -> None:
    found = template_set("order", locale="zh_Hant_TW", context={})
    assert parts(found, named("order.zh_Hant.subject.txt", "order.zh.txt")) == (
        "order.zh_Hant.subject.txt",
        "order.zh.txt",
        None,
    )


def test_text_and_html_are_never_of_two_languages() -> None:
    found = template_set("order", locale="de", context={})
    every = ("order.subject.txt", "order.txt", "order.html")
    assert parts(found, named(*every, "order.de.html")) == (every[0], None, "order.de.html")
    assert parts(found, named(*every, "order.de.txt")) == (every[0], "order.de.txt", None)


def test_one_body_is_enough_but_none_is_not() -> None:
    found = template_set("order", context={})
    assert parts(found, named("order.subject.txt", "order.html"))[1:] == (None, "order.html")
    with pytest.raises(TemplateError, match=r"'order.txt' or 'order.html' in .*check its name"):
        parts(found, named("order.subject.txt"))


def test_a_bundle_needs_a_subject() -> None:
    found = template_set("order", locale="de", context={})
    with pytest.raises(TemplateError, match=r"'order.de.subject.txt' or 'order.subject.txt' in"):
        parts(found, named("order.txt"))


def test_all_parts_see_the_context_and_the_locale() -> None:
    found = template_set("order", locale="de", context={"n": 7})
    assert dict(found.html.context) == {"locale": "de", "n": 7}
    assert parts(
        found, folder(**{"order.subject_txt": SUBJECT, "order_txt": TEXT, "order_html": HTML})
    ) == (
        "7 subject",
        "7 text",
        "7 html",
    )


def test_a_context_may_bring_a_locale_of_its_own() -> None:
    assert template_set("x", locale="de", context={"locale": "fr"}).text.context["locale"] == "fr"


@pytest.mark.parametrize("locale", ["../de", "de/AT", "de__AT", "dé"])
def test_a_locale_is_no_path(locale: str) -> None:
    with pytest.raises(TemplateError, match="locale must be like de"):
        template_set("order", locale=locale, context={})


def test_a_bundle_needs_a_name() -> None:
    with pytest.raises(TemplateError, match="name of the templates"):
        template_set("", context={})


def test_a_name_may_have_folders() -> None:
    assert parts(
        template_set("shop/order", context={}), named("shop/order.subject.txt", "shop/order.txt")
    ) == (
        "shop/order.subject.txt",
        "shop/order.txt",
        None,
    )


def test_a_message_is_made_of_a_bundle() -> None:
    message = Message.from_templates("order", context={"n": 1}, tags=["order"])
    assert isinstance(message.subject, Template)
    assert isinstance(message.html, Template)
