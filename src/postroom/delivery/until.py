"""When a worker ends by itself."""

from __future__ import annotations

from enum import StrEnum


class Until(StrEnum):
    """What a worker waits for before it ends."""

    #: Somebody stops it.
    STOPPED = "stopped"
    #: Nothing is due: what is deferred to later or leased by another worker stays.
    DRAINED = "drained"
    #: Nothing is left in the queue: it waits for retries and other workers' leases as well.
    EMPTY = "empty"
