"""Limits of a relay that this process found out by being refused.

They are shared by all senders of the relay, and never exceed what its URL says.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from postroom.backoff import Backoff
from postroom.log import Log
from postroom.relays.options import Pipelining
from postroom.relays.relay import Relay

log = Log("postroom.delivery")

#: A limit of recipients is forgotten after this: it may have been temporary.
_FORGET_AFTER_S = 3600.0
#: When one more connection is tried.
_RAISE_AFTER = Backoff(first_s=60.0, longest_s=600.0)


class ConnectionLimit:
    """How many connections a relay accepts: what its URL says, or fewer. Thread-safe.

    Args:
        maximum: The limit to start with; it is never exceeded.
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, maximum: int, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._maximum = maximum
        self._current = maximum
        #: How often in a row a raised limit was refused.
        self._refusals = 0
        self._raise_at = 0.0
        #: The limit was raised, and no connection was accepted or refused since.
        self._is_raised = False

    def current(self) -> int:
        """Return the limit; after a pause it is raised by one, to try whether that works."""
        if self._current >= self._maximum:
            return self._maximum
        with self._lock:
            if self._clock() >= self._raise_at and self._current < self._maximum:
                self._current += 1
                self._is_raised = True
                self._raise_at = self._clock() + _RAISE_AFTER.pause_s(self._refusals + 1)
            return self._current

    def refused(self, open_connections: int) -> None:
        """Lower the limit: the relay refused one more connection.

        Args:
            open_connections: How many connections are open.
        """
        with self._lock:
            if self._is_raised:
                self._refusals += 1
                self._is_raised = False
            self._current = min(max(open_connections, 1), self._maximum)
            self._raise_at = self._clock() + _RAISE_AFTER.pause_s(self._refusals + 1)

    def accepted(self, open_connections: int) -> None:
        """Keep or raise the limit: the relay accepted one more connection.

        Args:
            open_connections: How many connections are open, with the new one.
        """
        if self._current >= self._maximum:
            return
        with self._lock:
            self._current = max(self._current, min(open_connections, self._maximum))
            if self._is_raised and open_connections >= self._current:
                self._is_raised = False
                self._refusals = 0

    def reset(self) -> None:
        """Start with the maximum again: the relay was down, and its limit may have changed."""
        with self._lock:
            self._current = self._maximum
            self._refusals = 0
            self._is_raised = False


class DiscoveredLimits:
    """What is known of a relay beyond its URL. Thread-safe.

    Args:
        relay: The relay as its URL describes it.
        clock: A monotonic clock, in seconds.

    Attributes:
        relay: The relay, with less pipelining if it refused more.
        refuses_early: It refuses commands that are sent together with the final dot before them.
    """

    def __init__(self, relay: Relay, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.relay = relay
        self.refuses_early = False
        self._max_recipients: int | None = None
        self._forget_at = 0.0

    def max_recipients(self, announced: int | None) -> int | None:
        """Return how many recipients a transaction may have; None if no limit is known.

        Args:
            announced: The limit that the current connection knows; None: none.
        """
        learned = self._max_recipients
        if learned is None or self._clock() >= self._forget_at:
            return announced
        return learned if announced is None else min(learned, announced)

    def record(self, *, refuses_early: bool, max_recipients: int | None) -> None:
        """Store what one connection has found out.

        Args:
            refuses_early: The relay refused an envelope sent together with the final dot before it.
            max_recipients: How many recipients a transaction may have; None: no limit is known.
        """
        if refuses_early and self.relay.pipelining is Pipelining.FULL:
            self.refuses_early = True
            self.relay = replace(self.relay, pipelining=Pipelining.TRANSACTION)
            log.warning(
                "the relay %s refuses commands in the same write as the final dot; from now on "
                "each mail takes one more round trip. Write pipelining=transaction into its URL "
                "to start like that",
                self.relay.name,
            )
        if max_recipients is not None and max_recipients != self.max_recipients(None):
            self._max_recipients = max_recipients
            self._forget_at = self._clock() + _FORGET_AFTER_S
