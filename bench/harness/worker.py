"""Starting workers as processes of their own, and reading what they measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import URL

from bench.harness import profile
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
    ) -> None:
        order = {
            "database": database.render_as_string(hide_password=False),
            "relay": relay,
            "config": dict(config or {}),
            "until_stopped": until_stopped,
        }
        self._child = Child("bench.harness.worker_process", order)
        self._sampler: profile.Sampler | None = None
        self.idle_kib: int = self._child.hear()["idle_kib"]

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._child.pid

    def go(self) -> None:
        """Let it begin."""
        if profile.is_wanted():
            self._sampler = profile.Sampler(self.pid)
        self._child.say("go")

    def wait(self) -> dict[str, Any]:
        """Wait until it has done its work; return what it measured."""
        measured = self._child.hear()
        self._child.join()
        if self._sampler:
            print(self._sampler.told())
        return measured

    def stop(self) -> dict[str, Any]:
        """Tell it to stop gently; return what it measured."""
        self._child.terminate()
        return self.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self._child.kill()
