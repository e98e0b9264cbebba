"""Money and dates as people of a locale and in a time zone write them.

Imports Babel; nothing but ``filters`` imports this, when a template first asks for it.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from babel import dates, numbers

from postroom.errors import TemplateError
from postroom.message.templates.rendering import current_context
from postroom.text import shorten_repr

#: The locale where neither the filter nor the template's variables name one: never the
#: machine's, so that every worker renders the same.
DEFAULT_LOCALE = "en"


def money(amount: Decimal | float | str, currency: str, locale: str | None = None) -> str:
    """Return an amount in a currency (ISO 4217), such as ``1.234,50 €``."""
    # Through str, so that the float 0.1 is not 0.1000000000000000055.
    return numbers.format_currency(Decimal(str(amount)), currency, locale=_locale(locale))


def format_date(
    value: date | str, format: str = "medium", zone: str | None = None, locale: str | None = None
) -> str:
    """Return a date as ``short``, ``medium``, ``long``, ``full`` or a CLDR pattern."""
    return dates.format_date(_in_zone(value, zone), format, locale=_locale(locale))


def format_time(
    value: datetime | str, format: str = "short", zone: str | None = None, locale: str | None = None
) -> str:
    """Return the time of day of a datetime; formats as for dates."""
    return dates.format_time(_moment(value, zone), format, locale=_locale(locale))


def format_datetime(
    value: datetime | str,
    format: str = "medium",
    zone: str | None = None,
    locale: str | None = None,
) -> str:
    """Return date and time of a datetime; formats as for dates."""
    return dates.format_datetime(_moment(value, zone), format, locale=_locale(locale))


def _locale(wanted: str | None) -> str:
    """Return a locale as Babel spells it: ``de-AT`` is as good as ``de_AT``."""
    return (wanted or current_context("locale") or DEFAULT_LOCALE).replace("-", "_")


def _moment(value: datetime | str, zone: str | None) -> datetime:
    moment = _in_zone(value, zone)
    if not isinstance(moment, datetime):
        raise TemplateError(
            f"expected a datetime, got: {shorten_repr(value)}, which has no time of day"
        )
    return moment


def _in_zone(value: date | str, zone: str | None) -> date:
    """Return ``value`` in ``zone``, else in that of the template's variables, else in its own.

    A string is ISO 8601, as recipients' variables from a database hold it. A date without a
    time of day is the same everywhere.
    """
    moment = _parsed(value) if isinstance(value, str) else value
    name = zone or current_context("zone")
    if not isinstance(moment, datetime) or name is None:
        return moment
    if moment.tzinfo is None:
        raise TemplateError(
            f"expected a datetime with a time zone to show it in {name}, got: {moment.isoformat()}"
        )
    return moment.astimezone(ZoneInfo(name))


def _parsed(text: str) -> date:
    is_date = len(text) == len("2026-01-31")
    return date.fromisoformat(text) if is_date else datetime.fromisoformat(text)
