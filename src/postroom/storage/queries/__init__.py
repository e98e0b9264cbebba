"""What can be asked of the outbox. Only reads; every answer is a value."""

from postroom.storage.queries.attempts import AttemptRecord, attempts
from postroom.storage.queries.counts import Counts, WorkerStatus, counts
from postroom.storage.queries.explain import Explanation, explain
from postroom.storage.queries.search import MessageSummary, Search, search
from postroom.storage.queries.status import MessageStatus, RecipientStatus, status

__all__ = [
    "AttemptRecord",
    "Counts",
    "Explanation",
    "MessageStatus",
    "MessageSummary",
    "RecipientStatus",
    "Search",
    "WorkerStatus",
    "attempts",
    "counts",
    "explain",
    "search",
    "status",
]
