"""Users of the application as recipients: ids are looked up in the application's own table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Select, inspect, select
from sqlalchemy.exc import NoInspectionAvailable
from sqlalchemy.orm import Mapper
from sqlalchemy.types import TypeDecorator, TypeEngine

from postroom.batching import batched
from postroom.errors import ConfigError, InvalidAddress, RecipientError
from postroom.message.address import Address
from postroom.message.validation import as_tuple
from postroom.storage.engine import MAX_BOUND_VALUES, SessionOrConnection
from postroom.text import and_more, shorten_repr

_MAX_NAMED = 20


@dataclass(frozen=True, slots=True)
class UserLookup:
    """Looks up users' addresses by id.

    Attributes:
        statement: A SELECT of id, email and, optionally, name.
    """

    statement: Select[Any]

    @classmethod
    def of(cls, source: type[Any] | Select[Any]) -> UserLookup:
        """Return the lookup for what was given as ``Outbox(users=...)``.

        Args:
            source: A mapped class with a one-column primary key, an attribute ``email`` and,
                optionally, ``name``; or a select of two or three columns: id, email and name.

        Raises:
            ConfigError: it is neither.
        """
        if isinstance(source, Select):
            return cls(_check_columns(source))
        try:
            mapper = inspect(source)
        except NoInspectionAvailable:
            mapper = None
        if not isinstance(mapper, Mapper):
            raise ConfigError(
                "users must be a mapped class or select(User.id, User.email), "
                f"not {shorten_repr(source)}"
            )
        return cls(_select_of(mapper))

    def find(self, executor: SessionOrConnection, ids: Iterable[Any]) -> dict[Any, Address]:
        """Return the address of each of ``ids``, in their order; one SELECT for each 10,000.

        With a `Session`, pending users are flushed first, as by any query.

        Args:
            executor: The caller's session or connection.
            ids: Users' ids; texts are converted if the column holds integers or UUIDs.

        Raises:
            RecipientError: one error that names every id that does not exist, and every user
                without an address or with a wrong one.
        """
        wanted = self._unique(ids)
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
        for batch in batched(ids, MAX_BOUND_VALUES):
            yield from executor.execute(self.statement.where(column.in_(batch)))

    def _unique(self, ids: Iterable[Any]) -> list[Any]:
        """Return each id once, as the column holds it: Flask-Login returns ids as texts."""
        kind = _python_type(self.statement.selected_columns[0].type)
        return list(dict.fromkeys(_converted(one, kind) for one in as_tuple(ids, "users")))


def _python_type(column: TypeEngine[Any]) -> type:
    """Return the Python type of the column's values; ``object`` if it is unknown."""
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
            f"user_ids must be ids of the users' table ({kind.__name__}), not {shorten_repr(one)}"
        )
    return one


def _check_columns(statement: Select[Any]) -> Select[Any]:
    columns = len(statement.selected_columns)
    if columns not in (2, 3):
        raise ConfigError(
            "users must select an id, an email and, optionally, a name, "
            f"not {columns} columns; write select(User.id, User.email)"
        )
    return statement


def _select_of(mapper: Mapper[Any]) -> Any:
    if len(mapper.primary_key) != 1:
        raise ConfigError(
            f"{mapper.class_.__name__} must have a primary key of one column, "
            f"not {len(mapper.primary_key)}; pass select(User.id, User.email) instead"
        )
    if "email" not in mapper.all_orm_descriptors:
        raise ConfigError(
            f"{mapper.class_.__name__} has no attribute 'email'; "
            "pass select(User.id, User.mail) with your own names instead"
        )
    has_name = "name" in mapper.all_orm_descriptors and "name" not in mapper.relationships
    key = mapper.get_property_by_column(mapper.primary_key[0]).key
    names = [key, "email", *(["name"] if has_name else [])]
    statement: Any = select(*(getattr(mapper.class_, name) for name in names))
    return statement


def _address(one: Any, row: Any | None) -> Address:
    if row is None:
        raise RecipientError(f"there is no user {shorten_repr(one)}")
    if not row[1]:
        raise RecipientError(f"user {shorten_repr(one)} has no address")
    try:
        address = Address(row[1])
        name = row[2] if len(row) > 2 else None
        return address.with_name(str(name)) if name else address
    except InvalidAddress as error:
        raise InvalidAddress(f"user {shorten_repr(one)}: {error}") from error


def _summary(wrong: Sequence[str]) -> str:
    return and_more(wrong, _MAX_NAMED, separator="\n")
