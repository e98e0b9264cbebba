"""The filters for money and dates, in a locale and a time zone (extra ``locale``).

Importing this module imports Babel, so ``sandbox`` imports it when a template first uses a filter.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from babel import dates, numbers

from postroom.errors import TemplateError
from postroom.message.templates.rendering import current_context
from postroom.text import shorten_repr

#: The locale if neither the filter nor the variables name one. Never that of the machine, so that
#: every worker renders the same.
DEFAULT_LOCALE = "en"


def money(amount: Decimal | float | str, currency: str, locale: str | None = None) -> str:
    """Return an amount of money, such as ``1.234,50 €``.

    Args:
        amount: The amount.
        currency: The currency (ISO 4217), such as ``EUR``.
        locale: The locale; None: the variable ``locale``, or English.
    """
    # Through str: Decimal(0.1) is 0.1000000000000000055.
    return numbers.format_currency(Decimal(str(amount)), currency, locale=_locale(locale))


def format_date(
    value: date | str, format: str = "medium", zone: str | None = None, locale: str | None = None
) -> str:
    """Return a date as text.

    Args:
        value: A date or datetime, or its ISO 8601 text.
        format: ``short``, ``medium``, ``long``, ``full`` or a CLDR pattern.
        zone: The time zone for a datetime; None: the variable ``zone``, or its own.
        locale: The locale; None: the variable ``locale``, or English.
    """
    return dates.format_date(_in_zone(value, zone), format, locale=_locale(locale))


def format_time(
    value: datetime | str, format: str = "short", zone: str | None = None, locale: str | None = None
) -> str:
    """Return the time of day of a datetime as text.

    Args:
        value: A datetime, or its ISO 8601 text.
        format: As for `format_date`.
        zone: As for `format_date`.
        locale: As for `format_date`.

    Raises:
        TemplateError: It has no time of day, or no time zone to convert it from.
    """
    return dates.format_time(_as_datetime(value, zone), format, locale=_locale(locale))


def format_datetime(
    value: datetime | str,
    format: str = "medium",
    zone: str | None = None,
    locale: str | None = None,
) -> str:
    """Return date and time of a datetime as text.

    Args:
        value: A datetime, or its ISO 8601 text.
        format: As for `format_date`.
        zone: As for `format_date`.
        locale: As for `format_date`.

    Raises:
        TemplateError: It has no time of day, or no time zone to convert it from.
    """
    return dates.format_datetime(_as_datetime(value, zone), format, locale=_locale(locale))


def _locale(wanted: str | None) -> str:
    """Return the locale in the form of Babel: ``de_AT`` for ``de-AT``."""
    return (wanted or current_context("locale") or DEFAULT_LOCALE).replace("-", "_")


def _as_datetime(value: datetime | str, zone: str | None) -> datetime:
    parsed = _in_zone(value, zone)
    if not isinstance(parsed, datetime):
        raise TemplateError(f"a datetime is needed, and {shorten_repr(value)} has no time of day")
    return parsed


def _in_zone(value: date | str, zone: str | None) -> date:
    """Return ``value`` in ``zone``, or in the variable ``zone``, or in its own.

    A date without a time of day is not converted.
    """
    parsed = _parse_iso(value) if isinstance(value, str) else value
    name = zone or current_context("zone")
    if not isinstance(parsed, datetime) or name is None:
        return parsed
    if parsed.tzinfo is None:
        raise TemplateError(
            f"{parsed.isoformat()} has no time zone, so it cannot be shown in {name}"
        )
    return parsed.astimezone(ZoneInfo(name))


def _parse_iso(text: str) -> date:
    is_date = len(text) == len("2026-01-31")
    return date.fromisoformat(text) if is_date else datetime.fromisoformat(text)
