"""Explain in a line or two, without a password, why a database cannot be used.

`explaining_setup_errors` is for what a person starts: creating tables, checking them, a command.
`refusal` is for a running worker: an unreachable database will come back, one that refuses the
worker will not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

from postroom.errors import ConfigError
from postroom.storage.database_url import shown_url, without_secrets

#: What the database says (libpq, PostgreSQL or SQLite), and what a person can do about it.
_ADVICE = (
    (r"password authentication failed|no password supplied", "check the user and the password"),
    (r"no pg_hba\.conf entry", "allow this user and host in the server's pg_hba.conf"),
    (r'role ".*" does not exist', "check the user"),
    (r'database ".*" does not exist', "create it, or check the name"),
    (r"Connection refused|No such file", "check host and port, and that the server runs"),
    (r"resolve host|could not translate", "check the host name"),
    (r"timeout|timed out|unreachable", "check host and port, and the firewalls between"),
    (r"SSL|certificate", "check sslmode and sslrootcert in the URL"),
    (r"connection option", "check the part of the URL after the question mark"),
    (r"too many clients|remaining connection slots", "give the server more connections"),
    (r"permission denied", "grant it, or use another user"),
    (r"schema .* does not exist", "create it: CREATE SCHEMA"),
    (r"not a database", "name another file"),
    (r"unable to open", "check that it is a file which this user may read and write"),
    (r"readonly", "make the file and its directory writable"),
    (r"read-only transaction", "use the server that takes writes"),
    (
        r"(relation|column|function) .* does not exist|no such (table|column)|has no column",
        "the tables are not those of this version: run `postroom db upgrade`",
    ),
    (r"is full|No space left|disk full", "make room on the disk"),
    (r"disk I/O error", "check the disk that the file is on"),
    (r"malformed", "restore the file from a backup"),
)

#: Answers of the database that waiting will not change, by the first letters of the SQLSTATE
#: (https://www.postgresql.org/docs/current/errcodes-appendix.html): authorization,
#: no such database or schema, access rights and missing tables or columns, read-only, disk full.
_REFUSING_STATES = (
    *("28", "3D", "3F"),
    *("42501", "42P01", "42703", "42704", "42883"),
    *("25006", "53100"),
)

#: The same without a SQLSTATE: SQLite, and libpq before there is a session.
_REFUSING_TEXTS = re.compile(
    r"password authentication failed|no password supplied|no pg_hba\.conf entry"
    r'|(role|database) ".*" does not exist|permission denied'
    r"|no such (table|column)|has no column|not a database|unable to open|readonly"
    r"|is full|disk I/O error|malformed"
)

#: SQLSTATEs of set-up errors: insufficient privilege, no such schema.
_SET_UP_STATES = {"42501", "3F000"}

#: The same for SQLite, which reports them when it first needs the file.
_SET_UP_TEXTS = ("not a database", "unable to open", "readonly")


@contextmanager
def explaining_setup_errors(url: URL) -> Iterator[None]:
    """Turn a database error that is a matter of set-up into a `ConfigError` that says what to do.

    Set-up errors are: unreachable, access refused, not a database, not writable. Every other error
    passes through unchanged.

    Args:
        url: The database's URL; the error text shows it without secrets.

    Raises:
        ConfigError: the database cannot be used as it is set up.
    """
    try:
        yield
    except DBAPIError as error:
        if not _is_set_up(error):
            raise
        raise ConfigError(_explain(str(error.orig), url)) from None


def refusal(error: BaseException) -> str | None:
    """Return why a database refuses us and what to do, if waiting will not help.

    None if it is unreachable, busy or locked, or if the error does not come from the database.

    Args:
        error: What was raised.
    """
    if not isinstance(error, DBAPIError):
        return None
    text = str(error.orig)
    state = getattr(error.orig, "sqlstate", None)
    is_refusal = _REFUSING_TEXTS.search(text) if state is None else _refuses(state)
    if not is_refusal:
        return None
    reason = _reason(text)
    return f"{reason}; {_advice(reason)}"


def _refuses(state: str) -> bool:
    return state.startswith(_REFUSING_STATES)


def _is_set_up(error: DBAPIError) -> bool:
    if error.statement is None:  # failed while it connected
        return "locked" not in str(error.orig)
    if getattr(error.orig, "sqlstate", None) in _SET_UP_STATES:
        return True
    return any(text in str(error.orig) for text in _SET_UP_TEXTS)


def _explain(text: str, url: URL) -> str:
    missing = _missing_directory(url)
    if missing is not None:
        return f"the database cannot be created: there is no directory {missing}; create it first"
    reason = without_secrets(_reason(text), url)
    return f"the database {shown_url(url)} cannot be used: {reason}; {_advice(reason)}"


def _missing_directory(url: URL) -> Path | None:
    if url.get_backend_name() != "sqlite" or (url.database or "").startswith("file:"):
        return None
    directory = Path(url.database or "").absolute().parent
    return None if directory.is_dir() else directory


def _reason(text: str) -> str:
    """Drop libpq's preamble: the server's own words come last on the line."""
    first = text.strip().partition("\n")[0]
    return re.split(r"FATAL:\s+|ERROR:\s+|failed: ", first)[-1].strip() or "no reason"


def _advice(reason: str) -> str:
    return next(
        (advice for pattern, advice in _ADVICE if re.search(pattern, reason)), "check the URL"
    )
