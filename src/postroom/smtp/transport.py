"""What a sender speaks to: a session with a relay, or whatever takes mail in its place."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from postroom.message.envelope import Envelope
from postroom.relays.options import Pipelining
from postroom.relays.relay import Relay
from postroom.smtp import session
from postroom.smtp.dry_run import dry_run
from postroom.smtp.envelope_exchange import EnvelopeReplies
from postroom.smtp.reply import Outcome, Reply


class Transport(Protocol):
    """Takes transactions one after the other; see `postroom.smtp.session.Session`."""

    @property
    def transactions(self) -> int:
        """Return how many transactions have begun so far."""
        ...

    @property
    def accepts_more(self) -> bool:
        """Return whether one more transaction may begin, now or with ``finish``."""
        ...

    @property
    def is_usable(self) -> bool:
        """Return whether ``start`` may be called."""
        ...

    @property
    def pipelining(self) -> Pipelining:
        """Return how much is written before a reply is read."""
        ...

    @property
    def refuses_early(self) -> bool:
        """Return whether an opening that came with the final dot before it was refused."""
        ...

    @property
    def max_recipients(self) -> int | None:
        """Return how many recipients a transaction may have; None where no limit is known."""
        ...

    @property
    def transcript(self) -> str:
        """Return what was said, redacted and bounded."""
        ...

    def local_refusal(self, envelope: Envelope) -> Outcome | None:
        """Return why ``envelope`` could not be taken; None where nothing is known against it."""
        ...

    def send_envelope(self, envelope: Envelope) -> None:
        """Begin a transaction."""
        ...

    def read_envelope_replies(self) -> EnvelopeReplies:
        """Return how it was answered."""
        ...

    def send_content(self, chunks: Iterable[bytes]) -> None:
        """Write the content, all but its terminator."""
        ...

    def end_data(self, following: Envelope | None = None) -> tuple[Reply, ...]:
        """Write the terminator; return a reply for each recipient that stood."""
        ...

    def quit(self) -> None:
        """Take leave politely, and close."""
        ...

    def close(self) -> None:
        """Close at once."""
        ...

    def abort(self) -> None:
        """Hang up, from another thread."""
        ...


def connect(relay: Relay, *, clock: Callable[[], float] = time.monotonic) -> Transport:
    """Return a connection to ``relay``, or what takes its place in a dry run.

    Args:
        relay: where to connect to, and how.
        clock: monotonic, in seconds; all timeouts of the connection are measured by it.

    Raises:
        RelayError: there is none to be had.
    """
    return dry_run(relay) if relay.is_dry_run else session.connect(relay, clock=clock)
