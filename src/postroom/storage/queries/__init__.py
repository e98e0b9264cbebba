"""What can be asked of the outbox. Only reads; every answer is a value."""

from postroom.storage.queries.explanation import Explanation, explain
from postroom.storage.queries.message_search import MessageSummary, Search, search
from postroom.storage.queries.messages import (
    Attempt,
    MessageStatus,
    RecipientStatus,
    attempts,
    is_waiting,
    status,
)
from postroom.storage.queries.outbox_stats import OutboxStats, WorkerStatus, stats

__all__ = [
    "Attempt",
    "Explanation",
    "MessageStatus",
    "MessageSummary",
    "OutboxStats",
    "RecipientStatus",
    "Search",
    "WorkerStatus",
    "attempts",
    "explain",
    "is_waiting",
    "search",
    "stats",
    "status",
]
