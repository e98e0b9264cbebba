"""A query as recipients: its columns are checked before the database runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Dialect,
    LargeBinary,
    SelectBase,
    Subquery,
    Text,
    TypeDecorator,
    and_,
    cast,
    collate,
    event,
    func,
    literal,
    select,
)
from sqlalchemy.orm import ORMExecuteState, Session, scoped_session
from sqlalchemy.types import TypeEngine

from postroom.errors import RecipientError
from postroom.message.templates.json_values import TAG
from postroom.storage.engine import SessionOrConnection, dialect_of
from postroom.storage.json_variables import NamedColumn, variables

#: The most octets of a local part (RFC 5321 section 4.5.3.1.1); an address that is no longer than
#: that cannot have a part that is too long.
_MAX_LOCAL_PART = 64

#: A simple address, folded. Two hyphens in a row are left to Python: A-labels have them.
_ATOM = "[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_SIMPLE = rf"^{_ATOM}(?:\.{_ATOM})*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]+$"

#: As `postroom.text.UNWRITABLE`; neither database can store a surrogate, nor PostgreSQL a NUL.
_UNWRITABLE = r"[\u0001-\u001f\u007f-\u009f\u2028\u2029]"

_LETTERS = "abcdefghijklmnopqrstuvwxyz"

#: The column that is the display name.
_NAME = "name"

#: PostgreSQL calls a function with at most 100 arguments.
_MAX_VARIABLES = 49

#: Methods by which an application's own type returns other values than are stored.
_DECODERS = ("process_result_value", "result_processor", "column_expression")

_INSTEAD = "pass the rows instead: to=[Recipient(row.email, …) for row in session.execute(query)]"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientQuery:
    """A query that selects recipients.

    Its first column is the address; ``name`` is the display name, and the others are variables.

    Attributes:
        statement: The query as given.
        source: The query as a subquery.
    """

    statement: SelectBase
    source: Subquery

    @classmethod
    def of(cls, statement: SelectBase, executor: SessionOrConnection) -> RecipientQuery:
        """Check ``statement`` and return the query.

        A session's pending objects are flushed first, as by any query.

        Args:
            statement: What was given as ``to=``.
            executor: The caller's session or connection.

        Raises:
            RecipientError: its columns cannot describe recipients, or the session's events would
                change it.
        """
        _check_names(statement)
        if not isinstance(executor, Connection):
            if executor.autoflush:
                executor.flush()
            session = executor() if isinstance(executor, scoped_session) else executor
            _check_events(session, statement)
        query = cls(statement=statement, source=statement.subquery("postroom_found"))
        _check(query)
        return query

    @property
    def has_variables(self) -> bool:
        """Whether there are columns besides address and name."""
        return any(column.key != _NAME for column in self._other_columns)

    def rows(self, dialect: Dialect) -> CTE:
        """Return everyone the query selects: address, key, name and variables."""
        address = _text(self._columns[0])
        name = literal("") if self._name is None else func.trim(_text(self._name))
        columns = [
            address.label("address"),
            folded(address, dialect).label("key"),
            name.label("name"),
            variables(self._variables, dialect).label("variables"),
        ]
        rows = select(*columns).select_from(self.source).cte("postroom_rows")
        # Otherwise SQLite computes the key again each time it is used.
        return rows.prefix_with("MATERIALIZED", dialect="sqlite")

    def fingerprint(self, dialect: Dialect) -> str:
        """Return the query's text and values, which an idempotency key compares."""
        return fingerprint(self.statement, dialect)

    @property
    def _columns(self) -> Sequence[ColumnElement[Any]]:
        return tuple(self.source.c)

    @property
    def _other_columns(self) -> Sequence[ColumnElement[Any]]:
        return self._columns[1:]

    @property
    def _name(self) -> ColumnElement[Any] | None:
        return next((column for column in self._other_columns if column.key == _NAME), None)

    @property
    def _variables(self) -> Sequence[NamedColumn]:
        """The name is a variable too if there are others: templates greet people by it."""
        if not self.has_variables:
            return ()
        return [(str(column.key), column) for column in self._other_columns]


def _text(column: ColumnElement[Any]) -> ColumnElement[str]:
    return func.coalesce(cast(column, Text), "")


def _check_events(session: Session, statement: SelectBase) -> None:
    """Refuse a query that the session's events would change: they do not see our INSERT.

    Soft deletion and tenants are done that way
    (https://docs.sqlalchemy.org/en/20/orm/session_events.html#adding-global-where-on-criteria), and
    mail must not go to people whom the session would hide.
    """
    ran, dialect = effective_statement(session, statement), dialect_of(session)
    if ran is None or fingerprint(ran, dialect) != fingerprint(statement, dialect):
        raise RecipientError(
            "the session's events (do_orm_execute) change the query, which INSERT … SELECT would "
            "not see; write the condition into the query and pass session.connection() instead "
            "of the session"
        )


def _check_names(statement: SelectBase) -> None:
    names = [column.key for column in statement.selected_columns if column.key]
    for name in names:
        if names.count(name) > 1:
            raise RecipientError(
                f"the query has two columns named {name!r}; rename one of them with .label('…')"
            )


def _check(query: RecipientQuery) -> None:
    columns = tuple(query.source.c)
    for number, column in enumerate(columns, start=1):
        is_named = not column.name.startswith("%(")  # as SQLAlchemy marks names of its own making
        if number > 1 and (not is_named or column.key == TAG):
            raise RecipientError(
                f"column {number} of the query must have a name; give it one with .label('…')"
            )
        what = f"column {number}" + (f" ({column.key})" if is_named else "")
        _check_type(column.type, what, is_address=number == 1)
    if len(columns) - 1 > _MAX_VARIABLES:
        raise RecipientError(
            f"the query may have at most {_MAX_VARIABLES} columns after the address, "
            f"not {len(columns) - 1}"
        )


def _check_type(of_type: TypeEngine[Any], what: str, *, is_address: bool) -> None:
    python_types = _python_types(of_type)
    if _is_decoded(of_type) or python_types & {bytes, timedelta}:
        raise RecipientError(
            f"{what} of the query has the type {of_type!r}, which the database cannot put into "
            f"JSON; cast it, or {_INSTEAD}"
        )
    if is_address and not (str in python_types or python_types == {object}):
        raise RecipientError(
            f"{what} of the query must be an address, not {of_type!r}; write select(User.email, …)"
        )


def _is_decoded(of_type: TypeEngine[Any]) -> bool:
    """Return whether an application's own type returns something else than what is stored."""
    own = [kind for kind in type(of_type).__mro__ if not _is_of_sqlalchemy(kind)]
    return any(name in vars(kind) for kind in own for name in _DECODERS)


def _is_of_sqlalchemy(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "sqlalchemy"


def _python_types(of_type: TypeEngine[Any]) -> set[type]:
    """Return the Python types of a type and of the one below it; ``object`` is anything."""
    beneath = of_type.impl_instance if isinstance(of_type, TypeDecorator) else of_type
    return {_python_type(of_type), _python_type(beneath)}


def _python_type(of_type: TypeEngine[Any]) -> type:
    try:
        return of_type.python_type
    except NotImplementedError:
        return object


def folded(address: ColumnElement[str], dialect: Dialect) -> ColumnElement[str]:
    """Return the key of a simple ``address``: only ASCII letters are folded."""
    if dialect.name == "postgresql":
        return func.lower(collate(address, "C"))
    return func.lower(address)


def is_simple_address(
    address: ColumnElement[str], key: ColumnElement[str], dialect: Dialect
) -> ColumnElement[bool]:
    """Return whether `Address` accepts ``address`` for certain; ``key`` is its `folded` form."""
    if dialect.name == "postgresql":
        return and_(
            func.length(address) <= _MAX_LOCAL_PART, collate(key, "C").regexp_match(_SIMPLE)
        )
    return _is_simple_on_sqlite(address, key)


def _is_simple_on_sqlite(
    address: ColumnElement[str], key: ColumnElement[str]
) -> ColumnElement[bool]:
    """SQLite has no regular expressions; only the usual characters of local parts are simple."""
    glob = key.bool_op("GLOB")
    return and_(
        func.length(address) <= _MAX_LOCAL_PART,
        _octets(address) == func.length(address),  # functions of texts stop at a NUL
        ~glob("*[^-+.0-9@_a-z]*"),
        ~glob("[.@]*"),
        ~glob("*[-.@][-.@]*"),
        ~glob("*@*[^-.0-9a-z]*"),  # a second @ too
        func.rtrim(key, _LETTERS).bool_op("GLOB")("*@*."),  # before the top-level domain
        func.substr(key, -1) != ".",
    )


def is_header_safe(name: ColumnElement[str], dialect: Dialect) -> ColumnElement[bool]:
    """Return whether ``name`` may be a display name."""
    if dialect.name == "postgresql":
        return ~name.regexp_match(_UNWRITABLE)
    unwritable = "\1-\x1f\x7f-\x9f\u2028\u2029"
    return and_(
        ~name.bool_op("GLOB")(f"*[{unwritable}]*"),
        func.instr(cast(name, LargeBinary), b"\0") == 0,
    )


def _octets(text: ColumnElement[str]) -> ColumnElement[Any]:
    return func.length(cast(text, LargeBinary))


def fingerprint(statement: SelectBase, dialect: Dialect) -> str:
    """Return the text and the values of ``statement``."""
    compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
    values = sorted((name, repr(value)) for name, value in compiled.params.items())
    return f"{compiled}\n{values}"


class _Intercepted(Exception):
    """Stops a session that is about to run a statement."""

    def __init__(self, statement: SelectBase) -> None:
        super().__init__()
        self.statement = statement


def effective_statement(session: Session, statement: Any) -> SelectBase | None:
    """Return what the session's events make of ``statement``, without running it.

    None if an event answers it without asking the database.
    """

    def stop(state: ORMExecuteState) -> None:
        effective: Any = state.statement
        raise _Intercepted(effective)

    event.listen(session, "do_orm_execute", stop)  # behind the application's own
    try:
        session.execute(statement)
    except _Intercepted as intercepted:
        return intercepted.statement
    finally:
        event.remove(session, "do_orm_execute", stop)
    return None
