"""Template variables as JSON and back, for templates that are rendered at delivery.

Types that JSON does not have are written as ``{"$postroom": type, "value": text}``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from postroom.errors import TemplateError
from postroom.text import shorten_repr

#: The key of a dictionary that represents another type. Variables may not use it themselves.
TAG = "$postroom"

_ALLOWED = "a string, number, bool, None, date, time, datetime, Decimal, UUID, list or dict"

#: In this order, because a datetime is also a date.
_TO_TEXT: tuple[tuple[type, str, Callable[[Any], str]], ...] = (
    (datetime, "datetime", datetime.isoformat),
    (date, "date", date.isoformat),
    (time, "time", time.isoformat),
    (Decimal, "decimal", str),
    (UUID, "uuid", str),
)
_FROM_TEXT: Mapping[str, Callable[[str], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": UUID,
}


def pack_json(variables: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return ``variables`` as values that JSON and every database can store.

    Args:
        variables: The variables by name.
        what: What an error calls them; it also names the key of the wrong value.

    Raises:
        TemplateError: A value is not plain data, such as an object of the application.
    """
    try:
        return _pack_mapping(variables, what)
    except RecursionError:
        # From None: the traceback has a thousand equal frames.
        raise TemplateError(
            f"{what} must be plain data, but the values are nested too deeply or in a circle"
        ) from None


def unpack_json(value: Any) -> Any:
    """Return the value that `pack_json` was given; tuples have become lists.

    Args:
        value: What `pack_json` returned, or a part of it.

    Raises:
        TemplateError: A dictionary is tagged with an unknown type.
    """
    if isinstance(value, dict):
        if TAG in value:
            return _untagged(value)
        return {key: unpack_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unpack_json(item) for item in value]
    return value


def _pack(value: Any, path: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _checked_text(value, path)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        raise _refused(value, path)
    if isinstance(value, Mapping):
        return _pack_mapping(value, path)
    if isinstance(value, list | tuple):
        return [_pack(item, f"{path}[{index}]") for index, item in enumerate(value)]
    for kind, tag, to_text in _TO_TEXT:
        if isinstance(value, kind):
            return {TAG: tag, "value": to_text(value)}
    raise _refused(value, path)


def _pack_mapping(value: Mapping[Any, Any], path: str) -> dict[str, Any]:
    packed = {}
    for key, item in value.items():
        if not isinstance(key, str) or key == TAG:
            raise TemplateError(
                f"the keys of {path} must be strings other than {TAG!r}, not {shorten_repr(key)}"
            )
        packed[_checked_text(key, path)] = _pack(item, f"{path}[{key!r}]")
    return packed


def _checked_text(value: str, path: str) -> str:
    if hasattr(value, "__html__"):
        raise TemplateError(
            f"{path} must be plain data, not markup, which would be escaped at delivery; give a "
            "plain string and mark it in the template: {{ … | safe }}"
        )
    if "\0" in value or not (value.isascii() or _is_encodable(value)):
        raise TemplateError(f"{path} must be text without NUL and lone surrogates")
    return str.__str__(value)


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _untagged(value: dict[str, Any]) -> Any:
    try:
        return _FROM_TEXT[value[TAG]](value["value"])
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise TemplateError(
            f"{TAG!r} must name one of {', '.join(_FROM_TEXT)}, not {value!r}"
        ) from error


def _refused(value: Any, path: str) -> TemplateError:
    found = value if isinstance(value, float) else type(value).__name__
    return TemplateError(
        f"{path} must be {_ALLOWED}, not {found}, because the recipients have variables and the "
        "template is rendered at delivery"
    )
