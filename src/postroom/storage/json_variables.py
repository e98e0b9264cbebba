"""Template variables as JSON: built from a query's columns by the database, or spooled in Python.

The database writes the JSON that `postroom.message.templates.pack_json` writes.
"""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from collections.abc import Mapping, Sequence
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

from postroom.message.templates.json_values import TAG

#: A variable's name and the column with its values.
NamedColumn: TypeAlias = tuple[str, ColumnElement[Any]]

#: The variables of one enqueue stay in memory up to about this size; what is more goes to a file.
IN_MEMORY_BYTES = 8 * 1024 * 1024

#: Estimated size of a value that is neither a text nor a container.
_OTHER_BYTES = 64

_TAGS: tuple[tuple[type[TypeEngine[Any]], str], ...] = (
    (DateTime, "datetime"),
    (Date, "date"),
    (Time, "time"),
    (Uuid, "uuid"),
)


def variables(columns: Sequence[NamedColumn], dialect: Dialect) -> ColumnElement[Any]:
    """Return an expression for a JSON object of ``columns``; NULL if there are none.

    Args:
        columns: Names, and the columns with their values.
        dialect: SQLite or PostgreSQL.
    """
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
    # As a JSON number it would become a float.
    value = cast(column, Text) if tag == "decimal" else column
    tagged = func.jsonb_build_object(_text(TAG), _text(tag), _text("value"), value)
    return case((column.is_not(None), tagged))


def _on_sqlite(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """SQLite has no dates and no booleans; its texts and numbers are tagged with what they are."""
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
    """A decimal is a float on SQLite; its column says how many digits are meant."""
    scale = getattr(of_type, "scale", None)
    return cast(column, Text) if scale is None else func.printf(f"%.{scale}f", column)


def _tag(column: ColumnElement[Any]) -> str | None:
    """Return `pack_json`'s tag for the type of ``column``; None for a type that JSON has."""
    of_type = _plain_type(column)
    if isinstance(of_type, Numeric | Float):
        return "decimal" if of_type.asdecimal else None
    return next((tag for kind, tag in _TAGS if isinstance(of_type, kind)), None)


def _plain_type(column: ColumnElement[Any]) -> TypeEngine[Any]:
    """Return the type of ``column`` as the database knows it."""
    of_type: TypeEngine[Any] = column.type
    return of_type.impl_instance if isinstance(of_type, TypeDecorator) else of_type


def _text(value: str) -> ColumnElement[str]:
    return literal(value, String())


class SpooledVariables:
    """One recipient's variables, in the temporary file of an enqueue."""

    __slots__ = ("_file", "_offset", "_size_bytes")

    def __init__(self, file: _File, offset: int, size_bytes: int) -> None:
        self._file = file
        self._offset = offset
        self._size_bytes = size_bytes

    def load(self) -> Mapping[str, Any]:
        """Read the variables back."""
        loaded: Mapping[str, Any] = json.loads(self._file.read(self._offset, self._size_bytes))
        return loaded


Variables: TypeAlias = Mapping[str, Any] | SpooledVariables


def loaded(variables: Variables | None) -> Mapping[str, Any] | None:
    """Return the variables as a mapping, wherever they are kept."""
    return variables.load() if isinstance(variables, SpooledVariables) else variables


class VariablesSpool:
    """Keeps the variables of one enqueue: the first 8 MiB in memory, the others in a file."""

    def __init__(self) -> None:
        self._in_memory = 0
        self._file: _File | None = None

    def keep(self, packed: Mapping[str, Any]) -> Variables:
        """Return ``packed`` itself, or its place in the file.

        Args:
            packed: A recipient's variables, as they go into JSON.

        Raises:
            OSError: the temporary directory is full.
        """
        if self._in_memory <= IN_MEMORY_BYTES:
            self._in_memory += sum(map(_size_bytes, packed.values()))
            return packed
        if self._file is None:
            self._file = _File()
        written = json.dumps(packed).encode()
        return SpooledVariables(self._file, self._file.append(written), len(written))


class _File:
    """An unlinked temporary file, closed when nothing refers to it any more."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile(prefix="postroom-") as file:
            self._descriptor = os.dup(file.fileno())
        self._end = 0
        weakref.finalize(self, os.close, self._descriptor)

    def append(self, content: bytes) -> int:
        """Write ``content``; return its offset."""
        begin, left = self._end, memoryview(content)
        while left:
            left = left[os.pwrite(self._descriptor, left, self._end + len(content) - len(left)) :]
        self._end += len(content)
        return begin

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Return ``size_bytes`` bytes at ``offset``."""
        return os.pread(self._descriptor, size_bytes, offset)


def _size_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    return len(json.dumps(value)) if isinstance(value, dict | list) else _OTHER_BYTES
