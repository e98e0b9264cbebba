"""Logging through the application's own logging configuration; it never breaks a delivery.

A filter, handler or record factory of the application may raise, or use the same field names.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

#: The prefix of our fields on a log record, so that they differ from the record's own fields and
#: from those of the application.
PREFIX = "postroom_"

#: The failure that has been reported; one report is enough.
_REPORTED: list[str] = []


class Log(logging.LoggerAdapter[logging.Logger]):
    """A logger that adds a prefix to its extra fields, and never raises.

    An error in the application's logging is reported once, on standard error.

    Args:
        name: The name of the logger.
    """

    def __init__(self, name: str) -> None:
        super().__init__(logging.getLogger(name))

    def log(
        self,
        level: int,
        msg: object,
        *args: object,
        extra: Mapping[str, object] | None = None,
        **options: Any,
    ) -> None:
        """Log a line; this never raises.

        Args:
            level: The level, as in `logging.Logger.log`.
            msg: The text, with ``%s`` for each argument.
            args: The arguments of the text.
            extra: Fields for the record, without the prefix.
            options: Further options of `logging.Logger.log`.
        """
        try:
            if self.logger.isEnabledFor(level):
                fields = {PREFIX + name: value for name, value in (extra or {}).items()}
                # The caller of the adapter is one frame further up.
                self.logger.log(level, msg, *args, extra=fields, stacklevel=2, **options)
        except Exception as error:
            _report_once(error)


def _report_once(error: Exception) -> None:
    """Write to standard error, past the application's logging configuration."""
    last_resort = logging.lastResort
    if _REPORTED or last_resort is None:
        return
    text = "the application's logging failed, so log lines of postroom are missing: %s: %s"
    _REPORTED.append(text)
    values = (type(error).__name__, error)
    trace = (type(error), error, error.__traceback__)
    record = logging.LogRecord("postroom", logging.ERROR, __file__, 0, text, values, trace)
    last_resort.handle(record)
