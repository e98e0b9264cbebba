"""Users of the application as recipients: their ids, looked up in its own tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, inspect, select
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import Mapper
from sqlalchemy.types import TypeDecorator, TypeEngine

from postroom.errors import ConfigError, InvalidAddress, RecipientError
from postroom.message.address import Address
from postroom.message.validation import as_tuple
from postroom.storage.engine import SessionOrConnection
from postroom.text import and_more, shorten_repr

#: Bound values in one statement; asyncpg and PostgreSQL's protocol stop at 32,767.
_IDS_A_SELECT = 10_000

_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class UserLookup:
    """Where user ids become addresses: a SELECT of id, email and, where there is one, name."""

    statement: Select[Any]

    @classmethod
    def of(cls, source: type[Any] | Select[Any]) -> UserLookup:
        """Read ``source``: a mapped class with an ``email``, or ``select(User.id, User.email)``.

        A mapped class gives its one-column primary key, its attribute ``email`` and, where it has
        one, ``name``. A select gives two columns or three, in this order.

        Raises:
            ConfigError: it is neither.
        """
        if isinstance(source, Select):
            return cls(_checked(source))
        try:
            mapper = inspect(source)
        except NoInspectionAvailable:
            mapper = None
        if not isinstance(mapper, Mapper):
            raise ConfigError(
                "expected users to be a mapped class or select(User.id, User.email), "
                f"got: {shorten_repr(source)}"
            )
        return cls(_select_of(mapper))

    def find(self, executor: SessionOrConnection, ids: Iterable[Any]) -> dict[Any, Address]:
        """Return the address of each of ``ids``, in their order; one SELECT for each 10,000.

        With a `Session`, users that are still pending are flushed first, as by any query.

        Raises:
            RecipientError: one error that names every id that does not exist, and every user
                without an address or with a wrong one.
        """
        wanted = self._wanted(ids)
        rows = {row[0]: row for row in self._rows(executor, wanted)}
        found: dict[Any, Address] = {}
        wrong: list[str] = []
        for one in wanted:
            try:
                found[one] = _address(one, rows.get(one))
            except (RecipientError, InvalidAddress) as error:
                wrong.append(str(error))
        if wrong:
            raise RecipientError(_summary(wrong))
        return found

    def _rows(self, executor: SessionOrConnection, ids: Sequence[Any]) -> Iterator[Any]:
        column = self.statement.selected_columns[0]
        for start in range(0, len(ids), _IDS_A_SELECT):
            some = ids[start : start + _IDS_A_SELECT]
            yield from executor.execute(self.statement.where(column.in_(some)))

    def _wanted(self, ids: Iterable[Any]) -> list[Any]:
        """Return the ids once each, as the column holds them: Flask-Login hands out texts."""
        kind = _python_type(self.statement.selected_columns[0].type)
        return list(dict.fromkeys(_converted(one, kind) for one in as_tuple(ids, "users")))


def _python_type(column: TypeEngine[Any]) -> type:
    """Return what the column's values are in Python; ``object`` where only it can tell."""
    try:
        return object if isinstance(column, TypeDecorator) else column.python_type
    except NotImplementedError:
        return object


def _converted(one: Any, kind: type) -> Any:
    if isinstance(one, str) and kind in (int, UUID):
        try:
            return kind(one)
        except ValueError:
            pass
    if kind in (int, UUID, str) and (not isinstance(one, kind) or isinstance(one, bool)):
        raise RecipientError(
            f"expected users to be ids like those of the table ({kind.__name__}), got: "
            f"{shorten_repr(one)}"
        )
    return one


def _checked(statement: Select[Any]) -> Select[Any]:
    columns = len(statement.selected_columns)
    if columns not in (2, 3):
        raise ConfigError(
            "expected users to select an id, an email and perhaps a name, "
            f"got: {columns} columns; write select(User.id, User.email)"
        )
    return statement


def _select_of(mapper: Mapper[Any]) -> Any:
    if len(mapper.primary_key) != 1:
        raise ConfigError(
            f"expected {mapper.class_.__name__} to have a primary key of one column, "
            f"got: {len(mapper.primary_key)}; give select(User.id, User.email) instead"
        )
    if "email" not in mapper.all_orm_descriptors:
        raise ConfigError(
            f"expected {mapper.class_.__name__} to have an attribute 'email', got: none; "
            "give select(User.id, User.mail) with your own names instead"
        )
    has_name = "name" in mapper.all_orm_descriptors and "name" not in mapper.relationships
    key = mapper.get_property_by_column(mapper.primary_key[0]).key
    names = [key, "email", *(["name"] if has_name else [])]
    statement: Any = select(*(getattr(mapper.class_, name) for name in names))
    return statement


def _address(one: Any, row: Any | None) -> Address:
    if row is None:
        raise RecipientError(f"expected user {shorten_repr(one)} to exist, got: no such user")
    if not row[1]:
        raise RecipientError(f"expected user {shorten_repr(one)} to have an address, got: none")
    try:
        address = Address(row[1])
        name = row[2] if len(row) > 2 else None
        return address.with_name(str(name)) if name else address
    except InvalidAddress as error:
        raise InvalidAddress(f"user {shorten_repr(one)}: {error}") from error


def _summary(wrong: Sequence[str]) -> str:
    return and_more(wrong, _MOST_NAMED, separator="\n")
