"""How the command logs: one line for each event, for people or for programs.

The library logs below ``postroom`` with ``extra=``; its fields begin with ``postroom_`` on the
record. An application may format them as it likes, with these classes or without. Here they are
shown without the prefix.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from postroom.config.settings import LogFormat, LogLevel
from postroom.log import PREFIX
from postroom.text import safe_for_terminal

#: Attributes of every record; any other came from ``extra=``.
_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(log_format: LogFormat, level: LogLevel, stream: TextIO | None = None) -> None:
    """Send what ``postroom`` logs to a stream.

    Args:
        log_format: Text or JSON.
        level: The lowest level that is logged.
        stream: Where to; None for standard error.
    """
    output = logging.StreamHandler(stream or sys.stderr)
    output.setFormatter(JsonFormatter() if log_format is LogFormat.JSON else TextFormatter())
    logger = logging.getLogger("postroom")
    logger.handlers[:] = [output]
    logger.setLevel(level.upper())


def silence() -> None:
    """Log nothing, not even what Python prints when there is no handler."""
    logging.getLogger("postroom").handlers[:] = [logging.NullHandler()]


class TextFormatter(logging.Formatter):
    """``2026-01-31T09:30:00.123Z info accepted message_id=7 recipient=a@b.example``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, followed by its traceback if it has one."""
        pairs = (f"{name}={_quoted(value)}" for name, value in _extras(record).items())
        event = safe_for_terminal(record.getMessage())
        line = " ".join((_time(record), record.levelname.lower(), event, *pairs))
        if not record.exc_info:
            return line
        return f"{line}\n{safe_for_terminal(self.formatException(record.exc_info))}"


class JsonFormatter(logging.Formatter):
    """One JSON object in each line: time, level, logger, event, and every structured field."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        fields: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str).replace("\x7f", "\\u007f")


def _extras(record: logging.LogRecord) -> Mapping[str, Any]:
    return {
        name.removeprefix(PREFIX): value
        for name, value in vars(record).items()
        if name not in _ORDINARY and value is not None
    }


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _quoted(value: object) -> str:
    """Quote a value that would not read back as one word; a relay's text may contain anything."""
    text = str(value)
    if text.isprintable():
        is_word = text and not set(text) & set(" \"'=")
        return text if is_word else json.dumps(text, ensure_ascii=False)
    return json.dumps(text).replace("\x7f", "\\u007f")
