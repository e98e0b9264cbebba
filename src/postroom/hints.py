"""Waking this process's worker when a transaction commits that has enqueued something."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session, scoped_session

from postroom.storage.engine import Executor

#: In a session's ``info`` between an enqueue and its commit.
_PENDING = "postroom_pending_hint"


class Hints:
    """Calls ``hint`` after commits. A hint may be lost: the worker polls in any case."""

    def __init__(self, hint: Callable[[], None]) -> None:
        self._hint = hint

    def after_commit_of(self, session: Executor) -> None:
        """Give a hint once the outermost transaction of ``session`` has committed.

        A bare `Connection` gives none; what it enqueued is found by polling.
        """
        if isinstance(session, Connection):
            return
        one = session() if isinstance(session, scoped_session) else session
        one.info[_PENDING] = True
        if not event.contains(one, "after_commit", self._committed):
            event.listen(one, "after_commit", self._committed)

    def _committed(self, session: Session) -> None:
        if session.info.pop(_PENDING, False):
            self._hint()
