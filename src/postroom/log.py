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


class Log(logging.LoggerAdapter[logging.Logger]):
    """The logger ``name``; ``extra`` is given without the prefix that its fields get.

    An error inside the application's logging is said once, on standard error, and not raised.
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
        """Log at ``level``; ``options`` are those of `logging.Logger.log`."""
        try:
            if self.logger.isEnabledFor(level):
                fields = {PREFIX + name: value for name, value in (extra or {}).items()}
                # The place that logs is one call of ours away.
                self.logger.log(level, msg, *args, extra=fields, stacklevel=2, **options)
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
