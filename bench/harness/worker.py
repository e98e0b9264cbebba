"""Starting workers as processes of their own, and reading what they measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import URL

from bench.harness.child import Child


class Worker:
    """A worker process, ready and waiting; it shares no interpreter with the application."""

    def __init__(
        self,
        *,
        database: URL,
        relay: str,
        config: Mapping[str, Any] | None = None,
        until_stopped: bool = False,
        wrapper: Sequence[str] = (),
    ) -> None:
        order = {
            "database": database.render_as_string(hide_password=False),
            "relay": relay,
            "config": dict(config or {}),
            "until_stopped": until_stopped,
        }
        self._child = Child("bench.harness.worker_process", order, wrapper=wrapper)
        self.idle_kib: int = self._child.hear()["idle_kib"]

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._child.pid

    def go(self) -> None:
        """Let it begin."""
        self._child.say("go")

    def wait(self) -> dict[str, Any]:
        """Wait until it has done its work; return what it measured."""
        return self._child.hear()

    def stop(self) -> dict[str, Any]:
        """Tell it to stop gently; return what it measured."""
        self._child.terminate()
        return self.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self._child.kill()
