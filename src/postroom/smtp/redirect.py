"""Redirects all mail to one address, so that a staging system sends to nobody else.

The relay sees one recipient. Its reply is recorded for every original recipient, and a header of
the mail names them.
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

#: Names an original recipient; there is one for each.
HEADER = "X-Redirected-From"


def redirecting(connect: Callable[[Relay], Transport], to: Address) -> Callable[[Relay], Transport]:
    """Return a ``connect`` whose connections send every mail to ``to``.

    Args:
        connect: What makes the real connections.
        to: The address that gets the mail.
    """
    return lambda relay: RedirectingTransport(connect(relay), to)


class RedirectingTransport:
    """A transport that sends every mail to one address.

    Args:
        transport: The connection to send it on.
        to: The address that gets the mail.
    """

    def __init__(self, transport: Transport, to: Address) -> None:
        self._transport = transport
        self._to = to
        #: The envelope of the current transaction, with its original recipients.
        self._original: Envelope | None = None

    @property
    def transactions(self) -> int:
        """Return how many transactions have been started."""
        return self._transport.transactions

    @property
    def accepts_more(self) -> bool:
        """Return whether one more transaction may start."""
        return self._transport.accepts_more

    @property
    def is_usable(self) -> bool:
        """Return whether ``send_envelope`` may be called."""
        return self._transport.is_usable

    @property
    def pipelining(self) -> Pipelining:
        """Return how much is written before a reply is read."""
        return self._transport.pipelining

    @property
    def refuses_early(self) -> bool:
        """Return whether an envelope that was sent with the final dot before it was refused."""
        return self._transport.refuses_early

    @property
    def max_recipients(self) -> None:
        """Return None: there is only one recipient, so no limit matters."""

    @property
    def transcript(self) -> str:
        """Return what both sides said."""
        return self._transport.transcript

    def local_refusal(self, envelope: Envelope) -> Outcome | None:
        """Return why the relay would refuse the mail to the one address."""
        return self._transport.local_refusal(self._redirected(envelope))

    def send_envelope(self, envelope: Envelope) -> None:
        """Start a transaction with the one address."""
        self._original = envelope
        self._transport.send_envelope(self._redirected(envelope))

    def read_envelope_replies(self) -> EnvelopeReplies:
        """Return the replies, with the one RCPT reply for every original recipient."""
        replies = self._transport.read_envelope_replies()
        count = self._count
        return replace(
            replies, recipients=replies.recipients * count, accepted=replies.accepted * count
        )

    def send_content(self, chunks: Iterable[bytes]) -> None:
        """Write the header that names the original recipients, and the content."""
        assert self._original is not None
        self._transport.send_content(itertools.chain([_header(self._original)], chunks))

    def end_data(self, next_envelope: Envelope | None = None) -> tuple[Reply, ...]:
        """Write the final dot; return the same reply for every original recipient."""
        count = self._count
        redirected = None if next_envelope is None else self._redirected(next_envelope)
        replies = self._transport.end_data(redirected) * count
        if next_envelope is not None:
            self._original = next_envelope
        return replies

    def quit(self) -> None:
        """Send QUIT and close."""
        self._transport.quit()

    def close(self) -> None:
        """Close without QUIT."""
        self._transport.close()

    def abort(self) -> None:
        """Shut the connection down from another thread."""
        self._transport.abort()

    @property
    def _count(self) -> int:
        assert self._original is not None, "no transaction was started"
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
