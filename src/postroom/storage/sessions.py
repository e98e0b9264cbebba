"""Check the caller's session: whether it has a transaction that mail can be part of.

What is enqueued must commit with the caller's other changes, or not at all. A connection in
autocommit mode has no commit, and neither has an engine.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, TwoPhaseTransaction
from sqlalchemy.orm import Session, scoped_session

from postroom.errors import ConfigError
from postroom.storage.engine import SessionOrConnection

_AUTOCOMMIT = (
    "the session's connection is in autocommit mode (isolation_level='AUTOCOMMIT', or a driver "
    "that commits by itself): a mail could be written without the order it belongs to, or half. "
    "Use a session of an engine without it, for mail and what belongs to it alike"
)


def connection_of(executor: SessionOrConnection) -> Connection:
    """Return the connection that ``executor`` uses, in the caller's transaction.

    Sends nothing to the database, except what a session sends to begin.

    Args:
        executor: What the caller gave as its session.

    Raises:
        ConfigError: it is not a session or connection, or it commits every statement by itself.
    """
    check_is_session(executor)
    connection = executor if isinstance(executor, Connection) else executor.connection()
    if not connection.in_transaction():
        connection.begin()  # as its first statement would; an engine's own BEGIN is sent here
    if _is_autocommit(connection):
        raise ConfigError(_AUTOCOMMIT)
    return connection


def check_is_session(given: Any) -> None:
    """Check that mail can be enqueued on ``given``.

    Args:
        given: What the caller gave as its session.

    Raises:
        ConfigError: it cannot; the text says what to do instead.
    """
    if isinstance(given, Connection | Session | scoped_session):
        return
    # By its type alone: an engine shows its URL.
    raise ConfigError(
        "mail is enqueued on a Session or a Connection, in its transaction, not on "
        f"{type(given).__name__}; {_instead(given)}"
    )


def allows_notify(connection: Connection) -> bool:
    """Return whether a NOTIFY may be part of the transaction.

    A two-phase transaction may not have one
    (https://www.postgresql.org/docs/current/sql-prepare-transaction.html).

    Args:
        connection: A connection in a transaction.
    """
    return not isinstance(connection.get_transaction(), TwoPhaseTransaction)


def _is_autocommit(connection: Connection) -> bool:
    """Ask the driver, which knows whatever was set, and where; this costs no round trip."""
    pooled = connection.connection
    if connection.dialect.name == "sqlite":
        driver: Any = pooled.driver_connection
        # With None somebody else may have begun, as `configure_sqlite` does.
        commits_itself = driver.isolation_level is None or getattr(driver, "autocommit", 0) is True
        return commits_itself and not driver.in_transaction
    return bool(getattr(pooled.dbapi_connection, "autocommit", False))


def _instead(given: Any) -> str:
    if hasattr(given, "run_sync"):
        return "with an AsyncSession: await outbox.aenqueue(session, …), or session.run_sync(…)"
    if hasattr(given, "connect"):
        return "with an engine: with engine.begin() as connection: outbox.enqueue(connection, …)"
    return "give it the session of the order that the mail belongs to"
