"""The filters that templates have beside Jinja's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from postroom.values.errors import ConfigError


def _localized(name: str) -> Callable[..., str]:
    def apply(*arguments: Any, **options: Any) -> str:
        try:
            from postroom.values.template import localized  # noqa: PLC0415 - an optional extra
        except ImportError as error:
            raise ConfigError(
                f"expected Babel to be installed for the filter {name.removeprefix('format_')}, "
                "got: no such package; install postroom[locale]"
            ) from error
        text: str = getattr(localized, name)(*arguments, **options)
        return text

    return apply


#: By the name that templates know them by; what they take is in ``localized``.
FILTERS = {
    "money": _localized("money"),
    "date": _localized("format_date"),
    "time": _localized("format_time"),
    "datetime": _localized("format_datetime"),
}
