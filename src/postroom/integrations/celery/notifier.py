"""A thread that sends wakeups to the broker, so that no commit ever waits for it."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import Full, Queue
from typing import Any

from postroom.backoff import Backoff
from postroom.log import Log

log = Log("postroom.celery")

#: Commits within this time share one message.
MIN_INTERVAL_S = 0.1
_RETRY = Backoff(first_s=1.0, longest_s=30.0)
#: How long a process waits at its end for its last message to be sent.
_FLUSH_TIMEOUT_S = 1.0

_CONNECT_S = 2.0
_ANSWER_S = 5.0

#: Otherwise Kombu would try to connect forever.
_CONNECT_ONCE = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}


class BackgroundNotifier:
    """Sends a message soon after `notify`, one for several calls. Safe to use after a fork.

    Args:
        open_publisher: Returns the function that sends a message. Called once in each process; the
            function is then called in one thread.
        interval_s: Seconds between two messages. Default: 0.1.
    """

    def __init__(
        self,
        open_publisher: Callable[[], Callable[[], None]],
        *,
        interval_s: float = MIN_INTERVAL_S,
    ) -> None:
        self._open_publisher = open_publisher
        self._interval_s = interval_s
        self._thread: _NotifierThread | None = None

    def notify(self) -> None:
        """Send a message soon. Never blocks and never raises."""
        thread = self._thread
        if thread is None or thread.pid != os.getpid():
            # After a fork there is no thread, and the socket is the parent's.
            thread = self._thread = _NotifierThread(self._open_publisher(), self._interval_s)
            thread.start()
        thread.request()


class _NotifierThread(threading.Thread):
    """The thread of one process. Two are harmless: a message is then sent twice."""

    def __init__(self, send: Callable[[], None], interval_s: float) -> None:
        super().__init__(name="postroom-notifier", daemon=True)
        self.pid = os.getpid()
        self._send = send
        self._interval_s = interval_s
        self._requests: Queue[None] = Queue(maxsize=1)
        self._failures = 0
        self._sleeper = threading.Event()
        atexit.register(self._flush)

    def request(self) -> None:
        with suppress(Full):  # a request is waiting already
            self._requests.put_nowait(None)

    def run(self) -> None:
        """Send, wait, and send again if there was another request meanwhile."""
        while True:
            self._requests.get()
            try:
                self._send()
            except Exception as error:
                self._on_failed(error)
            else:
                self._on_sent()
            finally:
                self._requests.task_done()
            self._sleeper.wait(self._delay_s())

    def _delay_s(self) -> float:
        return _RETRY.pause_s(self._failures) or self._interval_s

    def _on_failed(self, error: Exception) -> None:
        if not self._failures:
            log.warning(
                "the broker cannot be reached, mail waits for the next sweep: %s",
                str(error).partition("\n")[0] or type(error).__name__,
            )
        self._failures += 1
        self.request()

    def _on_sent(self) -> None:
        if self._failures:
            log.info("the broker can be reached again")
        self._failures = 0

    def _flush(self) -> None:
        """Let a script that enqueues and ends send its last message, but do not wait for long."""
        if self.pid == os.getpid() and not self._failures:
            with self._requests.all_tasks_done:
                self._requests.all_tasks_done.wait_for(
                    lambda: not self._requests.unfinished_tasks, _FLUSH_TIMEOUT_S
                )


class TaskPublisher:
    """Sends a task without arguments. Belongs to one thread.

    Args:
        app: The Celery application.
        task: The task.
        options: Options for ``apply_async``, such as its queue.
    """

    def __init__(self, app: Any, task: Any, options: Mapping[str, Any]) -> None:
        self._app = app
        self._task = task
        self._options = options
        self._connection: Any = None

    def send(self) -> None:
        """Send the task; if the broker has dropped the connection, connect again.

        Raises:
            Exception: what Kombu and the transport raise if the broker cannot be reached.
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
            self._connection = self._connect()
        self._task.apply_async(connection=self._connection, retry=False, **self._options)

    def _connect(self) -> Any:
        connection = self._app.connection_for_write(connect_timeout=_CONNECT_S)
        connection.transport_options = {**connection.transport_options, **_CONNECT_ONCE}
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
