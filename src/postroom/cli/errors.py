"""Errors of the command: two lines at most for a person, an exit code for a script."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, runtime_checkable

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from postroom.errors import (
    AuthError,
    ConfigError,
    IdempotencyConflict,
    MessageError,
    PostroomError,
    RelayError,
    UnknownMessage,
)


class ExitCode(IntEnum):
    """The command's exit codes."""

    #: It did what was asked.
    OK = 0
    #: A mail was not accepted, or a check found something wrong.
    FAILED = 1
    #: The command line is wrong.
    USAGE = 2
    #: A setting, a URL, a password or the schema is wrong.
    CONFIGURATION = 3
    #: There is no such message, address or template.
    NOT_FOUND = 4
    #: It is too late, or something else exists already (other content under the same key).
    TOO_LATE = 5
    #: The message cannot be sent; nothing was stored.
    REFUSED = 6
    #: The database or the relay cannot be reached now; the same command may work later.
    UNREACHABLE = 7
    #: A defect in Postroom.
    DEFECT = 70
    #: Stopped by Ctrl-C.
    INTERRUPTED = 130


class CommandError(PostroomError):
    """A command cannot do what was asked.

    Args:
        text: What is wrong, and what to do.
        code: The exit code.
    """

    def __init__(self, text: str, code: ExitCode) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorReport:
    """An error as a person and a script see it.

    Attributes:
        text: One or two lines; empty if there is nothing to print.
        code: The exit code.
    """

    text: str
    code: int


#: The first match decides.
_CODES: tuple[tuple[type[PostroomError], ExitCode], ...] = (
    (AuthError, ExitCode.CONFIGURATION),
    (ConfigError, ExitCode.CONFIGURATION),
    (IdempotencyConflict, ExitCode.TOO_LATE),
    (MessageError, ExitCode.REFUSED),
    (RelayError, ExitCode.UNREACHABLE),
    (UnknownMessage, ExitCode.NOT_FOUND),
)


def describe(error: Exception) -> ErrorReport:
    """Return the text and the exit code for ``error``."""
    if isinstance(error, CommandError):
        return ErrorReport(text=str(error), code=error.code)
    if isinstance(error, PostroomError):
        return ErrorReport(text=str(error), code=_code(error))
    if isinstance(error, SQLAlchemyError):
        return _database_failure(error)
    if isinstance(error, OSError):
        return ErrorReport(text=_file_text(error), code=ExitCode.REFUSED)
    return _usage_failure(error) or _defect(error)


def not_found(message_id: int, address: str | None = None) -> CommandError:
    """Return the error for a message that does not exist, or has no such recipient."""
    to = "" if address is None else f" to {address}"
    return CommandError(
        f"no message {message_id}{to}: `postroom search` shows what there is", ExitCode.NOT_FOUND
    )


def _code(error: PostroomError) -> ExitCode:
    return next(
        (code for error_type, code in _CODES if isinstance(error, error_type)), ExitCode.FAILED
    )


@runtime_checkable
class _UsageError(Protocol):
    """Typer's errors, by their methods: not every version makes their common class public."""

    exit_code: int

    def format_message(self) -> str: ...


def _usage_failure(error: Exception) -> ErrorReport | None:
    if not isinstance(error, _UsageError):
        return None
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "postroom"
    text = " ".join(error.format_message().split())
    if not text:  # nothing was asked for, and help has been shown instead
        return ErrorReport(text="", code=ExitCode.USAGE)
    return ErrorReport(text=f"{text}\nTry: {path} --help", code=ExitCode.USAGE)


def _database_failure(error: SQLAlchemyError) -> ErrorReport:
    """Leave out the statement and its parameters: they hold people's mail."""
    if isinstance(error, OperationalError):
        return ErrorReport(
            text=f"the database failed: {_first_line(str(error.orig))}\n"
            "whatever was not committed was not done: try again",
            code=ExitCode.UNREACHABLE,
        )
    return _defect(error.orig if isinstance(error, DBAPIError) and error.orig else error)


def _file_text(error: OSError) -> str:
    reason = error.strerror or errno.errorcode.get(error.errno or 0, "failed")
    return f"{error.filename}: {reason}" if error.filename else reason


def _defect(error: BaseException) -> ErrorReport:
    return ErrorReport(
        text=f"a defect: {type(error).__name__}: {_first_line(str(error))}\n"
        "`postroom --traceback …` shows where; please report it",
        code=ExitCode.DEFECT,
    )


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
