"""What a process has found out about a relay by being refused, so that it is refused once only.

Shared by everybody who speaks with that relay; it only ever makes us more careful.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from postroom.log import Log
from postroom.values.relay import Relay
from postroom.values.relay_options import Pipelining

log = Log("postroom.delivery")

#: A limit of recipients is forgotten after this: it may have been a passing one.
_RECIPIENTS_S = 3600.0


class Learned:
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

    def note(self, *, refuses_early: bool, max_recipients: int | None) -> None:
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
