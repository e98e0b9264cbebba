"""Columns of a query as a recipient's variables: the JSON that `pack` makes, by the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlalchemy import (
    JSON,
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    Dialect,
    Float,
    Numeric,
    String,
    Text,
    Time,
    TypeDecorator,
    Uuid,
    case,
    cast,
    func,
    literal,
    null,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from postroom.values.template.jsonable import TAG

#: A variable's name and where its values are.
Named: TypeAlias = tuple[str, ColumnElement[Any]]

_TAGS: tuple[tuple[type[TypeEngine[Any]], str], ...] = (
    (DateTime, "datetime"),
    (Date, "date"),
    (Time, "time"),
    (Uuid, "uuid"),
)


def variables(columns: Sequence[Named], dialect: Dialect) -> ColumnElement[Any]:
    """Return one JSON object with each of ``columns``; NULL where there are none."""
    if dialect.name == "postgresql":
        value, build = _on_postgresql, func.jsonb_build_object
    else:
        value, build = _on_sqlite, func.json_object
    if not columns:
        return cast(null(), JSONB) if dialect.name == "postgresql" else null()
    return build(*(part for name, one in columns for part in (_text(name), value(one))))


def _on_postgresql(column: ColumnElement[Any]) -> ColumnElement[Any]:
    tag = _tag(column)
    if tag is None:
        return column
    # A number of JSON would become a float.
    value = cast(column, Text) if tag == "decimal" else column
    tagged = func.jsonb_build_object(_text(TAG), _text(tag), _text("value"), value)
    return case((column.is_not(None), tagged))


def _on_sqlite(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """SQLite has neither dates nor booleans; its texts and numbers are named what they are."""
    of_type = _plain_type(column)
    if isinstance(of_type, JSON):
        return func.json(func.coalesce(column, _text("null")))
    if isinstance(of_type, Boolean):
        return func.json(case((column.is_(None), "null"), (column, "true"), else_="false"))
    tag = _tag(column)
    if tag is None:
        return column
    value = _digits(column, of_type) if tag == "decimal" else column
    tagged = func.json_object(_text(TAG), _text(tag), _text("value"), value)
    return func.json(case((column.is_(None), "null"), else_=tagged))


def _digits(column: ColumnElement[Any], of_type: TypeEngine[Any]) -> ColumnElement[str]:
    """A decimal is a float there; its column says how many digits are meant."""
    scale = getattr(of_type, "scale", None)
    return cast(column, Text) if scale is None else func.printf(f"%.{scale}f", column)


def _tag(column: ColumnElement[Any]) -> str | None:
    """Return the name `pack` gives to the type of ``column``; None for one that JSON has."""
    of_type = _plain_type(column)
    if isinstance(of_type, Numeric | Float):
        return "decimal" if of_type.asdecimal else None
    return next((tag for kind, tag in _TAGS if isinstance(of_type, kind)), None)


def _plain_type(column: ColumnElement[Any]) -> TypeEngine[Any]:
    """Return the type of ``column`` as the database knows it, without an application's own."""
    of_type: TypeEngine[Any] = column.type
    return of_type.impl_instance if isinstance(of_type, TypeDecorator) else of_type


def _text(value: str) -> ColumnElement[str]:
    return literal(value, String())
