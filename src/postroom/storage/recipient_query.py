"""A query as recipients: checked for what it says of them, before the database runs it."""

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
from postroom.storage.json_variables import Named, variables

#: The most octets of a local part; a shorter address has no part that is too long.
_LONGEST = 64

#: Of a folded address. Two hyphens together are left to Python: A-labels begin with them.
_ATOM = "[a-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PLAIN = rf"^{_ATOM}(?:\.{_ATOM})*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+[a-z]+$"

#: As `postroom.message.headers` has them; neither database keeps a surrogate, nor PostgreSQL a NUL.
_UNWRITABLE = r"[\u0001-\u001f\u007f-\u009f\u2028\u2029]"

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def folded(address: ColumnElement[str], dialect: Dialect) -> ColumnElement[str]:
    """Return the key of a plain ``address``: only ASCII letters are folded."""
    if dialect.name == "postgresql":
        return func.lower(collate(address, "C"))
    return func.lower(address)


def is_simple_address(
    address: ColumnElement[str], key: ColumnElement[str], dialect: Dialect
) -> ColumnElement[bool]:
    """Return whether `Address` accepts ``address``, whose `folded` form is ``key``."""
    if dialect.name == "postgresql":
        return and_(func.length(address) <= _LONGEST, collate(key, "C").regexp_match(_PLAIN))
    return _is_plain_on_sqlite(address, key)


def _is_plain_on_sqlite(
    address: ColumnElement[str], key: ColumnElement[str]
) -> ColumnElement[bool]:
    """SQLite has no regular expressions; of local parts only the usual characters are plain."""
    glob = key.bool_op("GLOB")
    return and_(
        func.length(address) <= _LONGEST,
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


class _Asked(Exception):
    """Stops a session that is about to run a statement."""

    def __init__(self, statement: SelectBase) -> None:
        super().__init__()
        self.statement = statement


def effective_statement(session: Session, statement: Any) -> SelectBase | None:
    """Return what the session's events make of ``statement``, without running it.

    None where an event answers it without asking the database at all.
    """

    def stop(state: ORMExecuteState) -> None:
        asked: Any = state.statement
        raise _Asked(asked)

    event.listen(session, "do_orm_execute", stop)  # behind the application's own
    try:
        session.execute(statement)
    except _Asked as asked:
        return asked.statement
    finally:
        event.remove(session, "do_orm_execute", stop)
    return None


#: The column that is the display name.
_NAME = "name"

#: PostgreSQL calls a function with at most 100 arguments.
_MOST_VARIABLES = 49

#: What an application's own type overrides to show in Python other values than are stored.
_DECODERS = ("process_result_value", "result_processor", "column_expression")

_INSTEAD = "pass the rows instead: to=[Recipient(row.email, …) for row in session.execute(query)]"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientQuery:
    """A query whose first column is an address; ``name`` is the display name, others variables."""

    statement: SelectBase
    source: Subquery

    @classmethod
    def of(cls, statement: SelectBase, executor: SessionOrConnection) -> RecipientQuery:
        """Check ``statement``; a session's pending objects are flushed first, as by any query.

        Raises:
            RecipientError: its columns cannot be what a recipient needs, or the session's events
                make another query of it.
        """
        _check_names(statement)
        if not isinstance(executor, Connection):
            if executor.autoflush:
                executor.flush()
            session = executor() if isinstance(executor, scoped_session) else executor
            _check_events(session, statement)
        selection = cls(statement=statement, source=statement.subquery("postroom_found"))
        _check(selection)
        return selection

    @property
    def has_variables(self) -> bool:
        """Whether there is a column beside address and name."""
        return any(column.key != _NAME for column in self._further)

    def rows(self, dialect: Dialect) -> CTE:
        """Return everyone whom the query finds: address, key, name and variables."""
        address = _text(self._columns[0])
        name = literal("") if self._name is None else func.trim(_text(self._name))
        columns = [
            address.label("address"),
            folded(address, dialect).label("key"),
            name.label("name"),
            variables(self._variables, dialect).label("variables"),
        ]
        asked = select(*columns).select_from(self.source).cte("postroom_asked")
        # SQLite would work out the key again for each use of it.
        return asked.prefix_with("MATERIALIZED", dialect="sqlite")

    def fingerprint(self, dialect: Dialect) -> str:
        """Return what a key stands for: the query with its values, not what it finds."""
        return fingerprint(self.statement, dialect)

    @property
    def _columns(self) -> Sequence[ColumnElement[Any]]:
        return tuple(self.source.c)

    @property
    def _further(self) -> Sequence[ColumnElement[Any]]:
        return self._columns[1:]

    @property
    def _name(self) -> ColumnElement[Any] | None:
        return next((column for column in self._further if column.key == _NAME), None)

    @property
    def _variables(self) -> Sequence[Named]:
        """The name is one too, where there are others: templates greet people by it."""
        if not self.has_variables:
            return ()
        return [(str(column.key), column) for column in self._further]


def _text(column: ColumnElement[Any]) -> ColumnElement[str]:
    return func.coalesce(cast(column, Text), "")


def _check_events(session: Session, statement: SelectBase) -> None:
    """Refuse a query that the session's events would change: they do not see our INSERT.

    Soft deletion and tenants are done that way
    (https://docs.sqlalchemy.org/en/20/orm/session_events.html#adding-global-where-on-criteria),
    and mail must not go to those whom a session would hide.
    """
    ran, dialect = effective_statement(session, statement), dialect_of(session)
    if ran is None or fingerprint(ran, dialect) != fingerprint(statement, dialect):
        raise RecipientError(
            "expected the query to say by itself whom it finds, got: a session whose events "
            "(do_orm_execute) change it, which an INSERT … SELECT would pass by; write the "
            "condition into the query and pass session.connection() in place of the session"
        )


def _check_names(statement: SelectBase) -> None:
    names = [column.key for column in statement.selected_columns if column.key]
    for name in names:
        if names.count(name) > 1:
            raise RecipientError(
                "expected the columns of the query to have different names, "
                f"got: {name!r} twice; name one anew: .label('…')"
            )


def _check(selection: RecipientQuery) -> None:
    columns = tuple(selection.source.c)
    for number, column in enumerate(columns, start=1):
        has_name = not column.name.startswith("%(")  # as SQLAlchemy marks names of its own making
        if number > 1 and (not has_name or column.key == TAG):
            raise RecipientError(
                "expected each further column of the query to have a name of its own, "
                f"got: column {number} without; give it one: .label('…')"
            )
        what = f"column {number}" + (f" ({column.key})" if has_name else "")
        _check_type(column.type, what, is_address=number == 1)
    if len(columns) - 1 > _MOST_VARIABLES:
        raise RecipientError(
            f"expected the query to have an address and at most {_MOST_VARIABLES} further "
            f"columns, got: {len(columns) - 1}"
        )


def _check_type(of_type: TypeEngine[Any], what: str, *, is_address: bool) -> None:
    python_types = _python_types(of_type)
    if _is_decoded(of_type) or python_types & {bytes, timedelta}:
        raise RecipientError(
            f"expected {what} of the query to be what a database can put into JSON, "
            f"got: {of_type!r}; cast it, or {_INSTEAD}"
        )
    if is_address and not (str in python_types or python_types == {object}):
        raise RecipientError(
            f"expected {what} of the query, its first, to be an address, got: {of_type!r}; "
            "write select(User.email, …)"
        )


def _is_decoded(of_type: TypeEngine[Any]) -> bool:
    """Tell whether a type of the application's own makes something else of what is stored."""
    own = [kind for kind in type(of_type).__mro__ if not _is_of_sqlalchemy(kind)]
    return any(name in vars(kind) for kind in own for name in _DECODERS)


def _is_of_sqlalchemy(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "sqlalchemy"


def _python_types(of_type: TypeEngine[Any]) -> set[type]:
    """Return what a type and the one beneath it are in Python; ``object`` is anything."""
    beneath = of_type.impl_instance if isinstance(of_type, TypeDecorator) else of_type
    return {_python_type(of_type), _python_type(beneath)}


def _python_type(of_type: TypeEngine[Any]) -> type:
    try:
        return of_type.python_type
    except NotImplementedError:
        return object
