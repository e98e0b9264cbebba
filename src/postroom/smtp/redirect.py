"""Mail for everybody, to one address: what a staging system sends reaches nobody else.

The relay sees one recipient. What it answers is recorded for each of those the mail was for,
and a header names them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace

from postroom.message.address import Address
from postroom.message.envelope import Envelope
from postroom.relays.options import Pipelining
from postroom.relays.relay import Relay
from postroom.smtp.envelope_exchange import EnvelopeReplies
from postroom.smtp.reply import Outcome, Reply
from postroom.smtp.transport import Transport

#: Names whom the mail was for, once for each.
HEADER = "X-Redirected-From"


def redirecting(connect: Callable[[Relay], Transport], to: Address) -> Callable[[Relay], Transport]:
    """Return ``connect``, whose connections bring everything to ``to``."""
    return lambda relay: RedirectingTransport(connect(relay), to)


class RedirectingTransport:
    """A transport all of whose mail goes ``to`` one address."""

    def __init__(self, transport: Transport, to: Address) -> None:
        self._transport = transport
        self._to = to
        #: The envelope of the transaction at hand, as it was meant.
        self._original: Envelope | None = None

    @property
    def transactions(self) -> int:
        """Transactions begun so far."""
        return self._transport.transactions

    @property
    def accepts_more(self) -> bool:
        """Return whether one more transaction may begin."""
        return self._transport.accepts_more

    @property
    def is_usable(self) -> bool:
        """Return whether ``start`` may be called."""
        return self._transport.is_usable

    @property
    def pipelining(self) -> Pipelining:
        """Return how much is written before a reply is read."""
        return self._transport.pipelining

    @property
    def refuses_early(self) -> bool:
        """Return whether an opening that came with the final dot before it was refused."""
        return self._transport.refuses_early

    @property
    def max_recipients(self) -> None:
        """Return None: there is only one recipient."""

    @property
    def transcript(self) -> str:
        """Return what was said, to the one address."""
        return self._transport.transcript

    def local_refusal(self, envelope: Envelope) -> Outcome | None:
        """Return why the relay could not take the mail."""
        return self._transport.local_refusal(self._redirected(envelope))

    def send_envelope(self, envelope: Envelope) -> None:
        """Begin a transaction for the one address."""
        self._original = envelope
        self._transport.send_envelope(self._redirected(envelope))

    def read_envelope_replies(self) -> EnvelopeReplies:
        """Return how it was answered, as if everyone had been."""
        opening = self._transport.read_envelope_replies()
        count = self._count
        return replace(
            opening, recipients=opening.recipients * count, accepted=opening.accepted * count
        )

    def send_content(self, chunks: Iterable[bytes]) -> None:
        """Write the content, below a header that names those it was for."""
        assert self._original is not None
        self._transport.send_content(itertools.chain([_header(self._original)], chunks))

    def end_data(self, following: Envelope | None = None) -> tuple[Reply, ...]:
        """Write the terminator; return the same reply for everyone."""
        count = self._count
        redirected = None if following is None else self._redirected(following)
        replies = self._transport.end_data(redirected) * count
        if following is not None:
            self._original = following
        return replies

    def quit(self) -> None:
        """Take leave politely, and close."""
        self._transport.quit()

    def close(self) -> None:
        """Close at once."""
        self._transport.close()

    def abort(self) -> None:
        """Hang up, from another thread."""
        self._transport.abort()

    @property
    def _count(self) -> int:
        assert self._original is not None, "nothing was started"
        return len(self._original.recipients)

    def _redirected(self, envelope: Envelope) -> Envelope:
        return replace(
            envelope,
            recipients=(self._to.envelope,),
            size_bytes=envelope.size_bytes + len(_header(envelope)),
            needs_smtputf8=envelope.needs_smtputf8 or self._to.needs_smtputf8,
        )


def _header(envelope: Envelope) -> bytes:
    return "".join(f"{HEADER}: {recipient}\r\n" for recipient in envelope.recipients).encode()
