"""Our log lines: they go through the application's logging, and never fail the mail they tell of.

A filter, a handler or a record factory of the application's may raise, or use the name of a field.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

#: What every field of ours on a log record begins with: a record has names of its own, and so
#: may the application's filters and factories.
PREFIX = "postroom_"

_SAID: list[str] = []


class Log:
    """The logger ``name``; ``extra`` is given without the prefix that its fields get.

    An error inside the application's logging is said once, on standard error, and not raised.
    """

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def is_enabled_for(self, level: int) -> bool:
        """Return whether a line of ``level`` would go anywhere."""
        try:
            return self._logger.isEnabledFor(level)
        except Exception as error:
            _say_once(error)
            return False

    def info(self, text: str, *values: object, **options: Any) -> None:
        """Log at INFO; ``options`` are those of `logging.Logger.log`."""
        self._write(logging.INFO, text, values, **options)

    def warning(self, text: str, *values: object, **options: Any) -> None:
        """Log at WARNING."""
        self._write(logging.WARNING, text, values, **options)

    def error(self, text: str, *values: object, **options: Any) -> None:
        """Log at ERROR."""
        self._write(logging.ERROR, text, values, **options)

    def exception(self, text: str, *values: object, **options: Any) -> None:
        """Log at ERROR, with the traceback of the exception that is being handled."""
        self._write(logging.ERROR, text, values, exc_info=True, **options)

    def log(self, level: int, text: str, *values: object, **options: Any) -> None:
        """Log at ``level``."""
        self._write(level, text, values, **options)

    def _write(
        self,
        level: int,
        text: str,
        values: tuple[object, ...],
        *,
        extra: Mapping[str, object] | None = None,
        **options: Any,
    ) -> None:
        try:
            if self._logger.isEnabledFor(level):
                fields = {PREFIX + name: value for name, value in (extra or {}).items()}
                # The place that logs is two calls of ours away.
                self._logger.log(level, text, *values, extra=fields, stacklevel=3, **options)
        except Exception as error:
            _say_once(error)


def _say_once(error: Exception) -> None:
    """Say it where the application's logging has no part in it: on standard error, if anywhere."""
    last_resort = logging.lastResort
    if _SAID or last_resort is None:
        return
    text = "the application's logging failed, and lines of postroom's are missing: %s: %s"
    _SAID.append(text)
    values = (type(error).__name__, error)
    trace = (type(error), error, error.__traceback__)
    record = logging.LogRecord("postroom", logging.ERROR, __file__, 0, text, values, trace)
    last_resort.handle(record)
