"""Money and dates in templates."""

from __future__ import annotations

import builtins
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import TemplateError
from postroom.message.templates import Template
from tests.unit.templates import delivered, folder, text_of

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def shown(expression: str, **context: Any) -> str:
    """Return what an expression shows, with Babel's no-break spaces as plain ones."""
    rendered = text_of(Template.from_string("{{ " + expression + " }}", **context))
    return rendered.replace("\xa0", " ").replace("\u202f", " ")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1234.5|money('EUR')", "€1,234.50"),
        ("total|money('EUR', 'de')", "1.234,50 €"),
        ("total|money('EUR', locale='de-AT')", "€ 1.234,50"),
        ("'0.1'|money('USD')", "$0.10"),
        ("1000|money('JPY', 'ja')", "￥1,000"),
        ("noon|date", "Mar 1, 2026"),
        ("noon|date('long', locale='de')", "1. März 2026"),
        ("noon|date('yyyy/MM/dd')", "2026/03/01"),
        ("noon|time", "12:00 PM"),
        ("noon|time(zone='Europe/Berlin', locale='de')", "13:00"),
        ("noon|datetime", "Mar 1, 2026, 12:00:00 PM"),
        ("noon|datetime('short', 'Asia/Tokyo', 'ja')", "2026/03/01 21:00"),
        ("noon|date(zone='Pacific/Kiritimati')", "Mar 2, 2026"),
        ("day|date(zone='Pacific/Kiritimati')", "Mar 1, 2026"),
        ("'2026-03-01'|date", "Mar 1, 2026"),
        ("'2026-03-01T12:00:00+00:00'|time(zone='Europe/Berlin')", "1:00 PM"),
        ("'2026-03-01 12:00:00'|time", "12:00 PM"),
    ],
)
def test_values_are_shown_as_people_write_them(expression: str, expected: str) -> None:
    context = {"total": Decimal("1234.5"), "noon": NOON, "day": date(2026, 3, 1)}
    assert shown(expression, **context) == expected


def test_the_locale_and_zone_of_the_context_are_the_defaults() -> None:
    context = {"locale": "de", "zone": "Europe/Berlin", "noon": NOON}
    assert shown("noon|datetime('short') ~ ', ' ~ 5|money('EUR')", **context) == (
        "01.03.26, 13:00, 5,00 €"
    )


def test_each_recipient_has_a_locale_and_zone_of_its_own_in_macros_too() -> None:
    templates = folder(
        x_txt="{% from 'm.txt' import at %}{{ at(noon) }}",
        m_txt="{% macro at(when) %}{{ when|datetime('short') }}{% endmacro %}",
    )
    template = Template("x.txt", noon=NOON)
    variables = {"locale": "de", "zone": "Europe/Berlin"}
    assert delivered(template, templates, variables) == "01.03.26, 13:00"
    assert delivered(template, templates, {"locale": "sv"}) == "2026-03-01 12:00"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (
            "naive|date(zone='Europe/Berlin')",
            "no time zone, so it cannot be shown in Europe/Berlin",
        ),
        ("day|time", "a datetime is needed, .*no time of day"),
        ("'soon'|date", "line 1: it cannot be rendered: ValueError"),
        ("noon|date(zone='Mars/Crater')", "Mars/Crater"),
        ("noon|date(locale='xx')", "unknown locale 'xx'"),
        ("'much'|money('EUR')", "line 1"),
    ],
)
def test_what_cannot_be_shown_is_an_error(expression: str, expected: str) -> None:
    with pytest.raises(TemplateError, match=expected):
        shown(expression, naive=datetime(2026, 3, 1), day=date(2026, 3, 1), noon=NOON)  # noqa: DTZ001


@given(st.decimals(-(10**20), 10**20, places=2))
def test_an_amount_keeps_its_digits(amount: Decimal) -> None:
    digits = [c for c in shown("amount|money('EUR')", amount=amount) if c.isdigit()]
    assert "".join(digits).lstrip("0") == f"{abs(amount):f}".replace(".", "").lstrip("0")


def test_without_babel_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_babel(name: str, *arguments: Any) -> Any:
        if name == "postroom.message.templates" and "localized" in (arguments[2] or ()):
            raise ImportError("No module named 'babel'")
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_babel)
    with pytest.raises(
        TemplateError, match=r"line 1: .*filter money.*install 'postroom\[locale\]'"
    ):
        shown("1|money('EUR')")
