"""An application's own statement: what it says, and what its session makes of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Dialect, SelectBase, event
from sqlalchemy.orm import ORMExecuteState, Session


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


def as_run(session: Session, statement: Any) -> SelectBase | None:
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
