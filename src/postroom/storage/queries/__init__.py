"""What can be asked of the outbox. Only reads; every answer is a value."""

from postroom.storage.queries.attempt_log import AttemptRecord, attempts
from postroom.storage.queries.explanations import Explanation, explain
from postroom.storage.queries.messages import (
    MessageStatus,
    RecipientStatus,
    is_waiting,
    status,
)
from postroom.storage.queries.summaries import MessageSummary, Search, search
from postroom.storage.queries.totals import Counts, WorkerStatus, counts

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
    "is_waiting",
    "search",
    "status",
]
