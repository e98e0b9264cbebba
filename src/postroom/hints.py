"""Waking whoever delivers when a transaction commits that has enqueued something."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session, scoped_session

from postroom.storage.engine import Executor


class Hints:
    """Calls ``hint`` after commits. A hint may be lost: workers look by themselves in any case."""

    def __init__(self, hint: Callable[[], None]) -> None:
        self._hint = hint
        #: In a session's ``info`` between an enqueue and its commit.
        self._pending = f"postroom_pending_hint_{id(self)}"

    def after_commit_of(self, session: Executor) -> None:
        """Give a hint once the outermost transaction of ``session`` has committed.

        A bare `Connection` gives none; what it enqueued is found by polling.
        """
        if isinstance(session, Connection):
            return
        one = session() if isinstance(session, scoped_session) else session
        one.info[self._pending] = True
        if not event.contains(one, "after_commit", self._committed):
            event.listen(one, "after_commit", self._committed)

    def _committed(self, session: Session) -> None:
        # The event comes for a savepoint as well, which is still part of it there.
        if not session.in_nested_transaction() and session.info.pop(self._pending, False):
            self._hint()
