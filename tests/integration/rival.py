"""A second transaction, in a thread of its own, that gets in the first one's way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from sqlalchemy import Engine, event

T = TypeVar("T")

_PATIENCE_S = 30.0


class Rival(Generic[T]):
    """Does ``work`` beside the test; `start` returns when its first INSERT is on its way."""

    def __init__(self, engine: Engine, work: Callable[[], T]) -> None:
        self._engine = engine
        self._work = work
        self._is_writing = threading.Event()
        self._outcome: list[T | Exception] = []
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        event.listen(self._engine, "before_cursor_execute", self._watch)
        self._thread.start()
        assert self._is_writing.wait(_PATIENCE_S)

    def finish(self) -> T:
        """Return what the work returned, or raise what it raised."""
        self._thread.join(_PATIENCE_S)
        event.remove(self._engine, "before_cursor_execute", self._watch)
        assert self._outcome, "expected the rival to be done, got: still waiting"
        (outcome,) = self._outcome
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _run(self) -> None:
        try:
            self._outcome.append(self._work())
        except Exception as error:  # handed to the test
            self._outcome.append(error)

    def _watch(self, _: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if threading.current_thread() is self._thread and statement.startswith("INSERT"):
            self._is_writing.set()
