"""The script of a `FaultyRelay`: what it does instead of behaving correctly, and when."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from postroom.states import Phase


class Misbehavior(StrEnum):
    """Ways to fail other than by a reply."""

    #: Answer 554, and close the connection.
    REFUSE = "refuse"
    #: Reset the connection (RST).
    RESET = "reset"
    #: Close the connection (FIN).
    CLOSE = "close"
    #: Say nothing any more, and read nothing.
    STALL = "stall"
    #: Say something, one byte at a time, and never come to an end.
    DRIP = "drip"
    #: Say something that is not SMTP, and go on.
    GARBAGE = "garbage"
    #: Say line after line of one reply, as fast as can be.
    ENDLESS = "endless"


@dataclass(slots=True, kw_only=True)
class ScriptEntry:
    """One entry of a script; see `FaultyRelay.on`.

    Attributes:
        phase: The phase in which it applies.
        action: A reply such as ``"550 5.1.1 unknown"``, or a misbehavior.
        address: Only for this address; None for all.
        after_accepting: Misbehave after the mail was accepted and not before.
        times: How many more times it applies; None means always.
    """

    phase: Phase
    action: str | Misbehavior
    address: str | None
    after_accepting: bool
    #: How often it still happens; None: always.
    times: int | None


class Script:
    """Entries in the order they were added; the first that matches is used. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[ScriptEntry] = []

    def add(self, entry: ScriptEntry) -> None:
        """Add an entry at the end."""
        with self._lock:
            self._entries.append(entry)

    def clear(self) -> None:
        """Remove every entry."""
        with self._lock:
            self._entries.clear()

    def next(self, phase: Phase, addresses: Collection[str] = ()) -> ScriptEntry | None:
        """Return the entry that applies; None to behave correctly.

        Args:
            phase: The current phase.
            addresses: The sender (in MAIL) or the recipients concerned.
        """
        if not self._entries:
            return None
        with self._lock:
            for entry in self._entries:
                fits = entry.phase is phase and (
                    entry.address is None or entry.address in addresses
                )
                if fits and entry.times != 0:
                    if entry.times is not None:
                        entry.times -= 1
                    return entry
        return None
