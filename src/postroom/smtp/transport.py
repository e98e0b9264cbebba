"""The interface that senders use: a session with a relay, or what takes its place.

`postroom.smtp.session.Session`, `postroom.smtp.dry_run.DryRunTransport` and
`postroom.smtp.redirect.RedirectingTransport` implement it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from postroom.message.envelope import Envelope
from postroom.relays.options import Pipelining
from postroom.relays.relay import Relay
from postroom.smtp import session
from postroom.smtp.dry_run import open_dry_run
from postroom.smtp.envelope_exchange import EnvelopeReplies
from postroom.smtp.reply import Outcome, Reply


class Transport(Protocol):
    """Sends mail transactions one after the other.

    The contract is that of `postroom.smtp.session.Session`.
    """

    @property
    def transactions(self) -> int:
        """Return how many transactions have been started."""
        ...

    @property
    def accepts_more(self) -> bool:
        """Return whether one more transaction may start, now or with ``end_data``."""
        ...

    @property
    def is_usable(self) -> bool:
        """Return whether ``send_envelope`` may be called."""
        ...

    @property
    def pipelining(self) -> Pipelining:
        """Return how much is written before a reply is read."""
        ...

    @property
    def refuses_early(self) -> bool:
        """Return whether an envelope that was sent with the final dot before it was refused."""
        ...

    @property
    def max_recipients(self) -> int | None:
        """Return how many recipients a transaction may have; None if no limit is known."""
        ...

    @property
    def transcript(self) -> str:
        """Return what both sides said; credentials are masked, and the length is limited."""
        ...

    def local_refusal(self, envelope: Envelope) -> Outcome | None:
        """Return why ``envelope`` would be refused; None if it would not, as far as is known."""
        ...

    def send_envelope(self, envelope: Envelope) -> None:
        """Start a transaction."""
        ...

    def read_envelope_replies(self) -> EnvelopeReplies:
        """Return the replies to the envelope."""
        ...

    def send_content(self, chunks: Iterable[bytes]) -> None:
        """Write the content of the mail, without the final dot."""
        ...

    def end_data(self, next_envelope: Envelope | None = None) -> tuple[Reply, ...]:
        """Write the final dot, start the next transaction; return a reply for each recipient."""
        ...

    def quit(self) -> None:
        """Send QUIT and close."""
        ...

    def close(self) -> None:
        """Close without QUIT."""
        ...

    def abort(self) -> None:
        """Shut the connection down from another thread."""
        ...


def connect(relay: Relay, *, clock: Callable[[], float] = time.monotonic) -> Transport:
    """Return a connection to ``relay``, or what takes its place in a dry run.

    Args:
        relay: Where to connect to, and how.
        clock: A monotonic clock, in seconds. All timeouts are measured by it.

    Raises:
        RelayError: The connection could not be made.
    """
    return open_dry_run(relay) if relay.is_dry_run else session.connect(relay, clock=clock)
