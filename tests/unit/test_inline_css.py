"""Style sheets moved into elements."""

from __future__ import annotations

import sys

import pytest

from postroom.errors import ConfigError
from postroom.message import html_text
from postroom.message.templates import Template, Templates
from tests.unit.templates import html_of, source_of, text_of

STYLED = "<style>p { color: red }</style><p>Hello {{ name }}</p>"
INLINE = Templates.of(None, inline_css=True)


def test_rules_move_into_the_elements() -> None:
    assert '<p style="color: red;">Hi</p>' in html_text.inline_css(
        "<style>p { color: red }</style><p>Hi</p>"
    )


def test_what_cannot_move_stays() -> None:
    kept = html_text.inline_css(
        "<style>@media (max-width: 600px) { p { color: red } }</style><p>Hi</p>"
    )
    assert "@media (max-width: 600px)" in kept


def test_a_linked_style_sheet_is_not_loaded() -> None:
    # Nothing listens there, and loading it would be an error.
    link = '<link rel="stylesheet" href="http://127.0.0.1:9/a.css">'
    file = '<link rel="stylesheet" href="/etc/hostname">'
    inlined = html_text.inline_css(f"<head>{link}{file}</head><p>Hi</p>")
    assert link in inlined
    assert file in inlined


def test_it_is_on_by_a_setting_for_literal_and_rendered_html() -> None:
    template = Template.from_string(STYLED, name="Jo")
    assert '<p style="color: red;">Hello Jo</p>' in html_of(template, INLINE)
    assert '<p style="color: red;">Hello {{ name }}</p>' in html_of(STYLED, INLINE)
    assert "<style>" in html_of(template)


def test_it_is_off_for_text() -> None:
    assert text_of(STYLED, INLINE) == STYLED


def test_it_is_done_for_each_recipient_where_they_bring_variables() -> None:
    source = source_of(Template.from_string(STYLED), INLINE, html=True)
    assert '<p style="color: red;">Hello Jo</p>' in source.render({"name": "Jo"})


def test_without_css_inline_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "css_inline", None)
    with pytest.raises(ConfigError, match=r"postroom\[css\]"):
        html_text.inline_css("<p>")
