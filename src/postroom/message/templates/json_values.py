"""Template variables as JSON and back, for what is rendered at delivery.

What JSON has no type for travels as ``{"$postroom": type, "value": text}``.
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

#: The key of a dictionary that stands for another type. Refused in variables themselves.
TAG = "$postroom"

_ALLOWED = "a string, number, bool, None, date, time, datetime, Decimal, UUID, list or dict"

#: A datetime is a date too: the order matters.
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
    """Return ``variables`` as JSON can hold them, on every database.

    ``what`` names them in errors: the text says which key holds what it must not.

    Raises:
        TemplateError: a value is no plain data (an object of the application, say).
    """
    try:
        return _pack_mapping(variables, what)
    except RecursionError:
        # From None: a thousand frames would say no more.
        raise TemplateError(
            f"expected {what} to be plain data, got: values nested too deeply or in a circle"
        ) from None


def unpack_json(value: Any) -> Any:
    """Return what ``pack`` was given; lists stay lists.

    Raises:
        TemplateError: a dictionary is tagged as a type that ``pack`` does not know.
    """
    if isinstance(value, dict):
        if TAG in value:
            return _untagged(value)
        return {key: unpack_json(held) for key, held in value.items()}
    if isinstance(value, list):
        return [unpack_json(held) for held in value]
    return value


def _pack(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _checked_text(value, where)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        raise _refused(value, where)
    if isinstance(value, Mapping):
        return _pack_mapping(value, where)
    if isinstance(value, list | tuple):
        return [_pack(held, f"{where}[{index}]") for index, held in enumerate(value)]
    for kind, tag, to_text in _TO_TEXT:
        if isinstance(value, kind):
            return {TAG: tag, "value": to_text(value)}
    raise _refused(value, where)


def _pack_mapping(value: Mapping[Any, Any], where: str) -> dict[str, Any]:
    packed = {}
    for key, held in value.items():
        if not isinstance(key, str) or key == TAG:
            raise TemplateError(
                f"expected the keys of {where} to be strings other than {TAG!r}, got: "
                f"{shorten_repr(key)}"
            )
        packed[_checked_text(key, where)] = _pack(held, f"{where}[{key!r}]")
    return packed


def _checked_text(value: str, where: str) -> str:
    if hasattr(value, "__html__"):
        raise TemplateError(
            f"expected {where} to be plain data, got: markup, which is rendered at delivery and "
            "would lose its mark; give a plain string and mark it in the template: {{ … | safe }}"
        )
    if "\0" in value or not (value.isascii() or _is_encodable(value)):
        raise TemplateError(f"expected {where} to be text, got: NUL or a lone surrogate in it")
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
            f"expected {TAG!r} to tag one of {', '.join(_FROM_TEXT)}, got: {value!r}"
        ) from error


def _refused(value: Any, where: str) -> TemplateError:
    got = value if isinstance(value, float) else type(value).__name__
    return TemplateError(
        f"expected {where} to be {_ALLOWED}, because recipients bring variables and the template "
        f"is rendered at delivery, got: {got}"
    )
