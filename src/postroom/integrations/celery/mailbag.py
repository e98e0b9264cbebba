"""The connection to the broker that hints go over: one a process, with short deadlines."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

_CONNECT_S = 2.0
_ANSWER_S = 5.0

#: Kombu would otherwise go on connecting for ever.
_ONCE = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}


class Mailbag:
    """Sends ``task`` of ``app`` without arguments. Belongs to one thread."""

    def __init__(self, app: Any, task: Any, options: Mapping[str, Any]) -> None:
        self._app = app
        self._task = task
        self._options = options
        self._connection: Any = None

    def send(self) -> None:
        """Send one message; a connection that the broker has dropped meanwhile is made anew.

        Raises whatever Kombu and the transport raise where the broker cannot be reached.
        """
        is_reused = self._connection is not None
        try:
            self._send()
        except Exception:
            self._drop()
            if not is_reused:
                raise
            self._send()

    def _send(self) -> None:
        if self._connection is None:
            self._connection = self._connected()
        self._task.apply_async(connection=self._connection, retry=False, **self._options)

    def _connected(self) -> Any:
        connection = self._app.connection_for_write(connect_timeout=_CONNECT_S)
        connection.transport_options = {**connection.transport_options, **_ONCE}
        if connection.transport.driver_type == "redis":
            connection.transport_options |= {
                "socket_connect_timeout": _CONNECT_S,
                "socket_timeout": _ANSWER_S,
            }
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        with suppress(Exception):
            connection.release()
