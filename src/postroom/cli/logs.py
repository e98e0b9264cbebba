"""How the command logs: one line an event, with the mail it belongs to, for people or machines.

The library itself only logs under ``postroom…`` with ``extra=``, whose fields begin with
``postroom_`` on the record; an application is free to format that as it likes, with these classes
or without. Here the fields are shown without the prefix.
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

#: What every record carries; anything else on it came by ``extra=``.
_ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(log_format: LogFormat, level: LogLevel, stream: TextIO | None = None) -> None:
    """Send what ``postroom`` logs to ``stream`` (standard error where None)."""
    output = logging.StreamHandler(stream or sys.stderr)
    output.setFormatter(JsonFormatter() if log_format is LogFormat.JSON else TextFormatter())
    logger = logging.getLogger("postroom")
    logger.handlers[:] = [output]
    logger.setLevel(level.upper())


def silence() -> None:
    """Log nothing: not even what Python would print for want of a handler."""
    logging.getLogger("postroom").handlers[:] = [logging.NullHandler()]


class TextFormatter(logging.Formatter):
    """``2026-01-31T09:30:00.123Z info accepted message_id=7 recipient=a@b.example``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, and its traceback below where it has one."""
        pairs = (f"{name}={_quoted(value)}" for name, value in _extras(record).items())
        event = safe_for_terminal(record.getMessage())
        line = " ".join((_time(record), record.levelname.lower(), event, *pairs))
        if not record.exc_info:
            return line
        return f"{line}\n{safe_for_terminal(self.formatException(record.exc_info))}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, and every structured field."""

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
    """Quote what would not read back as one word; a relay's text may hold anything."""
    text = str(value)
    if text.isprintable():
        is_word = text and not set(text) & set(" \"'=")
        return text if is_word else json.dumps(text, ensure_ascii=False)
    return json.dumps(text).replace("\x7f", "\\u007f")
