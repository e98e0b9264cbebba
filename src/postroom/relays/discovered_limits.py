"""What a process has found out about a relay by being refused, so that it is refused once only.

Shared by everybody who speaks with that relay; it only ever makes us more careful.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from postroom.backoff import Backoff
from postroom.log import Log
from postroom.relays.options import Pipelining
from postroom.relays.relay import Relay

#: When one more connection is asked for.
_ASK_AGAIN = Backoff(first_s=60.0, longest_s=600.0)


class ConnectionLimit:
    """As many connections as the relay's URL says, or as few as it takes. Thread-safe.

    Args:
        most: the limit to begin with, and never to exceed.
        clock: monotonic, in seconds.
    """

    def __init__(self, most: int, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._most = most
        self._current = most
        #: How often in a row one more than before was refused.
        self._refusals = 0
        self._raise_at = 0.0
        #: The limit was raised, and nobody has been let in or refused since.
        self._is_raised = False

    def current(self) -> int:
        """Return the limit; now and then it is one more than before, to see whether that works."""
        if self._current >= self._most:
            return self._most
        with self._lock:
            if self._clock() >= self._raise_at and self._current < self._most:
                self._current += 1
                self._is_raised = True
                self._raise_at = self._clock() + _ASK_AGAIN.pause_s(self._refusals + 1)
            return self._current

    def refused(self, standing: int) -> None:
        """Take note that no more than the ``standing`` connections were let in."""
        with self._lock:
            if self._is_raised:
                self._refusals += 1
                self._is_raised = False
            self._current = min(max(standing, 1), self._most)
            self._raise_at = self._clock() + _ASK_AGAIN.pause_s(self._refusals + 1)

    def let_in(self, standing: int) -> None:
        """Take note that ``standing`` connections stand."""
        if self._current >= self._most:
            return
        with self._lock:
            self._current = max(self._current, min(standing, self._most))
            if self._is_raised and standing >= self._current:
                self._is_raised = False
                self._refusals = 0

    def forget(self) -> None:
        """Begin anew: the relay was away, and its limit may be another one."""
        with self._lock:
            self._current = self._most
            self._refusals = 0
            self._is_raised = False


log = Log("postroom.delivery")

#: A limit of recipients is forgotten after this: it may have been a passing one.
_RECIPIENTS_S = 3600.0


class DiscoveredLimits:
    """What is known of ``relay`` beside what its URL says. Thread-safe.

    Args:
        relay: the relay as its URL describes it.
        clock: monotonic, in seconds.
    """

    def __init__(self, relay: Relay, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        #: The relay as it is best spoken to.
        self.relay = relay
        #: It refuses commands that come with the final dot before them.
        self.refuses_early = False
        self._recipients: int | None = None
        self._forget_at = 0.0

    def most_recipients(self, announced: int | None) -> int | None:
        """Return how many recipients a transaction may have; None where no limit is known.

        Args:
            announced: the limit that the connection at hand knows of.
        """
        learned = self._recipients
        if learned is None or self._clock() >= self._forget_at:
            return announced
        return learned if announced is None else min(learned, announced)

    def record(self, *, refuses_early: bool, max_recipients: int | None) -> None:
        """Take note of what one connection has found out.

        Args:
            refuses_early: an opening that came with the final dot before it was refused.
            max_recipients: how many recipients a transaction may have, as far as it knows.
        """
        if refuses_early and self.relay.pipelining is Pipelining.FULL:
            self.refuses_early = True
            self.relay = replace(self.relay, pipelining=Pipelining.TRANSACTION)
            log.warning(
                "the relay %s refuses commands in the same write as the final dot; from here on "
                "each mail costs it one round trip more. Write pipelining=transaction into its URL "
                "to begin like that",
                self.relay.name,
            )
        if max_recipients is not None and max_recipients != self.most_recipients(None):
            self._recipients = max_recipients
            self._forget_at = self._clock() + _RECIPIENTS_S
