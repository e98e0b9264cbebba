"""How a bench is run, as said on the command line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """``short`` is for a look during work; figures to be published come from the full form.

    ``recipients`` overrides how many mails a run has, where a bench asks for a number.
    ``peers`` are the names of those to run beside ours (``none`` for none of them); None runs
    all that a bench knows.
    """

    short: bool = False
    rounds: int = 3
    recipients: int | None = None
    peers: frozenset[str] | None = None

    def size(self, *, full: int, short: int) -> int:
        """Return how many mails a run has."""
        return self.recipients or (short if self.short else full)

    def wants(self, peer: str) -> bool:
        """Return whether ``peer`` is to run."""
        return self.peers is None or peer in self.peers
