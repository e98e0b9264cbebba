"""One SMTP session: mail transactions one after the other, one round trip each.

Nothing is retried here. After anything unexpected the session cannot be used any more, so
a reply is never taken for the answer to another command.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from enum import Enum, auto

from postroom.errors import ConnectError, RelayError, named
from postroom.message.envelope import Envelope
from postroom.relays.options import Pipelining
from postroom.relays.relay import Relay
from postroom.smtp.capabilities import Capabilities
from postroom.smtp.commands import FINAL_DOT, RSET, local_refusal
from postroom.smtp.connection import Connection
from postroom.smtp.envelope_exchange import EnvelopeExchange, EnvelopeReplies, write
from postroom.smtp.handshake import handshake
from postroom.smtp.reply import SERVICE_CLOSING, Outcome, Reply
from postroom.states import Fault, Phase

_QUIT_S = 2.0
_WRITE_BYTES = 65_536
#: Content up to this size is sent in one write with the final dot. Everything written earlier has
#: been answered by then, so the socket has room for at least this much (tcp(7), tcp_wmem).
_SINGLE_WRITE_BYTES = 16_384
#: Deadline for writing the final dot. It must stay well below the lease: the commit gate has
#: already been passed.
_FINAL_DOT_S = 5.0


def connect(relay: Relay, *, clock: Callable[[], float] = time.monotonic) -> Session:
    """Connect to ``relay``, start TLS and log in, as its URL says.

    Args:
        relay: The relay to connect to.
        clock: A monotonic clock, in seconds. All timeouts are measured by it.

    Raises:
        ConnectError, TLSError, AuthError, RelayTimeout, Disconnected: The connection could not be
            made. The error's ``transcript`` holds what both sides said, without credentials.
    """
    connection: Connection | None = None
    try:
        connection = Connection(relay, clock=clock)
        return Session(connection, handshake(connection), clock=clock)
    except BaseException as error:
        transcript = ""
        if connection is not None:
            transcript = connection.transcript.text()
            connection.close()
        if isinstance(error, RelayError):
            error.transcript = transcript
            raise
        if isinstance(error, Exception):
            raise _unexpected(error, relay, transcript) from error
        raise


def _unexpected(error: Exception, relay: Relay, transcript: str) -> ConnectError:
    """Return the error for a failure that neither the relay nor the network caused."""
    failure = ConnectError(
        f"could not connect to the relay {relay.name}: unexpected error: {named(error)}",
        phase=Phase.CONNECT,
        fault=Fault.OURSELVES,
    )
    failure.transcript = transcript
    return failure


class _State(Enum):
    #: Ready for ``send_envelope``.
    IDLE = auto()
    #: An envelope has been sent; ``read_envelope_replies`` comes next.
    STARTED = auto()
    #: The relay waits for the content.
    OPEN = auto()
    #: Cannot be used any more.
    BROKEN = auto()


# Python 3.11 runs a function for each look-up of a member, and these are looked up for each mail.
_IDLE, _STARTED, _OPEN, _BROKEN = _State
_MAIL, _BODY, _DOT = Phase.MAIL, Phase.BODY, Phase.DOT


class Session:
    """One connection that is ready for mail (RFC 5321 section 3.1). Not thread-safe.

    A transaction is ``send_envelope``, ``read_envelope_replies``, and if the relay is then ready
    for content, ``send_content`` and ``end_data``. With ``end_data(next_envelope)`` the next
    transaction starts in the same write as the final dot; continue with ``read_envelope_replies``.

    Every call may raise ``RelayError``. The session is then broken: only ``close`` is left.

    Args:
        connection: The connection, after the handshake.
        capabilities: What the relay announced in its reply to EHLO.
        clock: A monotonic clock, in seconds.

    Attributes:
        relay: The relay on the other side.
        capabilities: What is used of the announced extensions; without PIPELINING where the
            relay's URL turns it off.
        refuses_early: The relay has refused an envelope that was sent together with the final dot
            of the mail before.
        max_recipients: The largest number of recipients for one transaction, as far as this
            connection knows (RFC 9422 ``RCPTMAX``, or a refusal); None if no limit is known.
        transactions: How many transactions have been started on this connection.
    """

    def __init__(
        self, connection: Connection, capabilities: Capabilities, *, clock: Callable[[], float]
    ) -> None:
        relay = connection.relay
        if relay.pipelining is Pipelining.OFF:
            capabilities = replace(capabilities, has_pipelining=False)
        self.relay = relay
        self.capabilities = capabilities
        #: The next envelope is sent together with the final dot.
        self._sends_early = capabilities.has_pipelining and relay.pipelining is Pipelining.FULL
        self.refuses_early = False
        self.max_recipients = capabilities.max_recipients
        self.transactions = 0
        self._connection = connection
        self._clock = clock
        self._last_used = clock()
        self._start_until = self._last_used + relay.timeouts.session_s / 2
        self._max_transactions = min(
            capabilities.max_messages or relay.max_messages_per_connection,
            relay.max_messages_per_connection,
        )
        #: BROKEN during every call: if the call fails, it stays so.
        self._state = _IDLE
        #: The relay has said that it is about to close the connection.
        self._is_closing = False
        self._exchange: EnvelopeExchange | None = None
        self._needs_reset = False
        #: How many recipients of the current transaction were accepted.
        self._accepted = 0
        #: Content of the current transaction that is sent together with the final dot.
        self._held_back = b""

    @property
    def pipelining(self) -> Pipelining:
        """Return how much is written before a reply is read."""
        if self._sends_early:
            return Pipelining.FULL
        has_pipelining = self.capabilities.has_pipelining
        return Pipelining.TRANSACTION if has_pipelining else Pipelining.OFF

    @property
    def accepts_more(self) -> bool:
        """Return whether one more transaction may start, now or with ``end_data``."""
        return (
            self._state is not _BROKEN
            and not self._is_closing
            and self.transactions < self._max_transactions
            and self._clock() < self._start_until
        )

    @property
    def is_usable(self) -> bool:
        """Return whether ``send_envelope`` may be called.

        False after an error, after the maximum number of messages, in the second half of the
        connection's longest life (``Timeouts.session_s``), after ``Relay.idle_s`` without a mail,
        or when the relay has closed the connection (the socket is checked).
        """
        return (
            self._state is _IDLE
            and self.accepts_more
            and self._clock() - self._last_used < self.relay.idle_s
            and self._connection.is_idle()
        )

    @property
    def transcript(self) -> str:
        """Return what both sides said in the handshake and the last transaction.

        Credentials are masked, and the length is limited.
        """
        return self._connection.transcript.text()

    def local_refusal(self, envelope: Envelope) -> Outcome | None:
        """Return why the relay would refuse ``envelope``, by what it announced; None otherwise.

        Args:
            envelope: The envelope to check. Nothing is sent.
        """
        return local_refusal(envelope, self.capabilities)

    def send_envelope(self, envelope: Envelope) -> None:
        """Start a transaction: write as much of MAIL, RCPT and DATA as needs no reply between.

        Args:
            envelope: The sender and the recipients.

        Raises:
            RelayError: The commands could not be written.
        """
        assert self._state is _IDLE, f"send_envelope() on a session that is {self._state.name}"
        exchange = self._begin(envelope)
        self._state = _BROKEN
        self._connection.transcript.begin(exchange.commands)
        write(self._connection, exchange.first_write(), _MAIL)
        self._state = _STARTED

    def read_envelope_replies(self) -> EnvelopeReplies:
        """Read the replies to the envelope that ``send_envelope`` or ``end_data`` sent.

        If the relay is not ready for content afterwards, the transaction is over, and the session
        is ready for the next one or broken (RFC 2920 section 3.1).

        Raises:
            RelayError: The connection broke, or the relay answered something else.
        """
        exchange = self._exchange
        assert exchange is not None, (
            f"read_envelope_replies() on a session that is {self._state.name}"
        )
        self._exchange = None
        self._state = _BROKEN
        self._connection.transcript.begin(exchange.commands)
        replies = exchange.read(self._connection)
        self._accepted = replies.accepted
        if not replies.all_accepted:
            self._learn(replies, exchange)
        if replies.is_ready_for_content:
            self._connection.assert_no_early_reply(_BODY)
            self._state = _OPEN
        else:
            self._become_idle()
        return replies

    def send_content(self, chunks: Iterable[bytes]) -> None:
        """Write the content of the mail, without the final dot.

        A failure here is never in doubt: without the final dot the relay has no mail. Afterwards
        ``end_data`` can write at once, even if the relay reads slowly, so the caller can check
        right before it that the mail may still be sent.

        Args:
            chunks: The message. No line begins with a dot (RFC 5321 section 4.5.2), and the last
                one ends with CRLF.

        Raises:
            RelayError: The content could not be written.
        """
        assert self._state is _OPEN, f"send_content() on a session that is {self._state.name}"
        self._state = _BROKEN
        written = 0
        held: list[bytes] = []
        size = 0
        for chunk in chunks:
            held.append(chunk)
            size += len(chunk)
            if size >= _WRITE_BYTES:
                write(self._connection, b"".join(held), _BODY)
                written += size
                held, size = [], 0
        rest = b"".join(held)
        if written or size > _SINGLE_WRITE_BYTES:
            write(self._connection, rest, _BODY)
            self._connection.wait_writable(self.relay.timeouts.body_s, _BODY)
            rest = b""
        self._held_back = rest
        self._connection.transcript.add(f"{written + size} bytes of content")
        self._state = _OPEN

    def end_data(self, next_envelope: Envelope | None = None) -> tuple[Reply, ...]:
        """Write the final dot and read the reply.

        Args:
            next_envelope: The envelope of the next transaction. It is sent in the same write as
                the dot if the relay allows that, otherwise after the reply. Call
                ``read_envelope_replies`` next.

        Returns:
            One reply for each accepted recipient, in their order: the same reply for all of them
            over SMTP, one each over LMTP (RFC 2033 section 4.2).

        Raises:
            RelayError: The connection broke; with ``in_doubt`` if the dot may have reached the
                relay.
        """
        assert self._state is _OPEN, f"end_data() on a session that is {self._state.name}"
        next_commands = b""
        if next_envelope is not None:
            exchange = self._begin(next_envelope)
            if self._sends_early:
                next_commands = exchange.first_write(is_early=True)
        self._state = _BROKEN
        self._connection.transcript.add(FINAL_DOT)
        replies = self._read_final_replies(next_commands)
        self._is_closing = replies[-1].code == SERVICE_CLOSING
        if next_envelope is None:
            self._become_idle()
        else:
            self._state = _STARTED
        return replies

    def end_data_with_reset(self) -> tuple[tuple[Reply, ...], Reply]:
        """Write the final dot and RSET in one write; return the replies to both.

        The reply to RSET shows whether the relay accepts commands together with the final dot, and
        starts no transaction. If it refuses them, the session cannot be used any more.

        Raises:
            RelayError: The connection broke; with ``in_doubt`` if the dot may have reached the
                relay.
        """
        assert self._state is _OPEN, (
            f"end_data_with_reset() on a session that is {self._state.name}"
        )
        self._state = _BROKEN
        self._connection.transcript.add(FINAL_DOT)
        replies = self._read_final_replies(RSET)
        try:
            reply = self._connection.expect(_MAIL)
        except RelayError as error:
            self.refuses_early = True
            return replies, Reply(code=0, lines=(str(error),))
        self.refuses_early = self._is_closing = not reply.is_positive
        self._become_idle()
        return replies, reply

    def quit(self) -> None:
        """Send QUIT if the session is idle, wait up to two seconds for the reply, and close."""
        try:
            if self._state is _IDLE:
                deadline = self._clock() + _QUIT_S
                self._connection.write(b"QUIT\r\n", _QUIT_S, _DOT)
                self._connection.read_reply(deadline - self._clock(), _DOT)
        except RelayError:
            pass  # every mail has its outcome already
        finally:
            self.close()

    def abort(self) -> None:
        """Shut the connection down from another thread; a running call fails with an error."""
        self._connection.abort()

    def close(self) -> None:
        """Close the connection without QUIT; the relay discards unfinished content."""
        self._state = _BROKEN
        self._connection.close()

    def _begin(self, envelope: Envelope) -> EnvelopeExchange:
        self._exchange = EnvelopeExchange(
            envelope,
            self.capabilities,
            resets=self._needs_reset,
            is_reused=self.transactions > 0,
        )
        self._needs_reset = False
        self.transactions += 1
        return self._exchange

    def _learn(self, replies: EnvelopeReplies, exchange: EnvelopeExchange) -> None:
        """Keep what the refusals mean for the next transaction."""
        self._needs_reset = exchange.needs_reset
        self._is_closing = self._is_closing or exchange.is_closing
        self.refuses_early = self.refuses_early or replies.is_refused_early
        limit = replies.recipient_limit
        if limit is not None and (self.max_recipients is None or limit < self.max_recipients):
            self.max_recipients = limit

    def _read_final_replies(self, next_commands: bytes) -> tuple[Reply, ...]:
        """Write the held-back content, the dot and ``next_commands``; read the final replies."""
        connection = self._connection
        unsent, self._held_back = self._held_back, b""
        before_dot = connection.written + len(unsent)
        expected = self._accepted if self.relay.is_lmtp else 1
        replies: list[Reply] = []
        try:
            content = b"".join((unsent, FINAL_DOT, next_commands))
            connection.write(content, min(_FINAL_DOT_S, self.relay.timeouts.body_s), _BODY)
            while len(replies) < expected:
                replies.append(connection.expect(_DOT))
        except RelayError as error:
            # What the socket did not take, the relay has not seen.
            error.in_doubt = connection.written > before_dot
            error.replies = tuple(replies)
            if error.in_doubt:
                error.phase = _DOT
            else:
                error.reply = connection.pending_refusal()
            raise
        return tuple(replies) if self.relay.is_lmtp else tuple(replies * self._accepted)

    def _become_idle(self) -> None:
        self._state = _IDLE
        self._last_used = self._clock()
