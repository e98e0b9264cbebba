"""What an outbox can be asked about its messages, and what can be decided about them.

Each call works in the transaction of the session it is given, and never commits.
"""

from __future__ import annotations

from collections.abc import Iterable

from postroom.post import Post
from postroom.storage import decisions, queries
from postroom.storage.decisions import Cancellation
from postroom.storage.engine import Executor
from postroom.storage.models import Tables
from postroom.storage.order import Receipt
from postroom.storage.queries import (
    AttemptRecord,
    Counts,
    Explanation,
    MessageStatus,
    MessageSummary,
    Search,
)


class Records:
    """The part of an outbox that answers and decides.

    Raises:
        UnknownMessage: by every call that names a message, where there is none of that id.
    """

    _tables: Tables
    _post: Post

    def status(self, session: Executor, message: int | Receipt) -> MessageStatus:
        """Return where a message and each of its recipients stand."""
        return queries.status(session, self._tables, id_of(message))

    def attempts(self, session: Executor, message: int | Receipt) -> tuple[AttemptRecord, ...]:
        """Return every attempt to deliver a message, oldest first."""
        return queries.attempts(session, self._tables, id_of(message))

    def explain(self, session: Executor, message: int | Receipt) -> tuple[Explanation, ...]:
        """Say for each recipient, in words, why its mail has not gone and when it will."""
        return queries.explain(session, self._tables, id_of(message))

    def search(self, session: Executor, wanted: Search) -> tuple[MessageSummary, ...]:
        """Return messages that fit, newest first, a page at a time."""
        return queries.search(session, self._tables, wanted)

    def counts(self, session: Executor) -> Counts:
        """Return how many recipients are in which state, what is due, and who works."""
        return queries.counts(session, self._tables)

    def cancel(self, session: Executor, message: int | Receipt) -> Cancellation:
        """Cancel a message for every recipient who is not being sent to already."""
        return decisions.cancel(session, self._tables, id_of(message))

    def requeue(
        self,
        session: Executor,
        message: int | Receipt,
        addresses: Iterable[str] | None = None,
    ) -> tuple[str, ...]:
        """Send again what ended without being accepted, or is only due later; now, and afresh.

        Returns the addresses it will be sent to; ``addresses`` limits it to some.
        """
        again = decisions.requeue(session, self._tables, id_of(message), addresses)
        if again:
            self._post.hint_after_commit_of(session)
        return again

    def resolve(
        self,
        session: Executor,
        message: int | Receipt,
        *,
        sent: bool,
        addresses: Iterable[str] | None = None,
    ) -> tuple[str, ...]:
        """Decide for recipients in doubt: they have it (``sent``), or it is sent again."""
        done = decisions.resolve(
            session, self._tables, id_of(message), sent=sent, addresses=addresses
        )
        if done and not sent:
            self._post.hint_after_commit_of(session)
        return done

    def suppress(self, session: Executor, address: str, reason: str) -> None:
        """Write to ``address`` no more, also where mail for it waits already.

        Raises:
            InvalidAddress: it is none.
        """
        decisions.suppress(session, self._tables, address, reason)

    def unsuppress(self, session: Executor, address: str) -> bool:
        """Write to ``address`` again; return whether it was suppressed."""
        return decisions.unsuppress(session, self._tables, address)


def id_of(message: int | Receipt) -> int:
    """Return the id of the message that is meant."""
    return message.message_id if isinstance(message, Receipt) else message
