"""One connection that takes mail: transactions one after the other, a round trip each.

Nothing is tried again here. After anything unexpected the session is of no use any more, so
that a reply can never be taken for the answer to something else.
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
from postroom.smtp.commands import local_refusal
from postroom.smtp.connection import Connection
from postroom.smtp.envelope_exchange import RESET, EnvelopeExchange, EnvelopeReplies, write
from postroom.smtp.handshake import handshake
from postroom.smtp.reply import Outcome, Reply
from postroom.states import Fault, Phase

_CLOSING = 421
_QUIT_S = 2.0
_WRITE_BYTES = 65_536
#: Bodies up to this size leave in one write with their terminator. Whatever was written before has
#: been answered, so that the socket has room for as much at once (tcp(7), tcp_wmem).
_SINGLE_WRITE_BYTES = 16_384
#: How long a terminator may wait for room after all: well below any lease.
_FINAL_DOT_S = 5.0
_TERMINATOR = b".\r\n"


def connect(relay: Relay, *, clock: Callable[[], float] = time.monotonic) -> Session:
    """Connect to ``relay``, encrypt, log in.

    ``clock`` is monotonic, in seconds.

    Raises:
        ConnectError, TLSError, AuthError, RelayTimeout, Disconnected: it could not be done, for
            whatever reason; the error's ``transcript`` holds what was said, without credentials.
    """
    connection: Connection | None = None
    try:
        connection = Connection(relay, clock=clock)
        return Session(connection, handshake(connection), clock=clock)
    except BaseException as error:
        said = ""
        if connection is not None:
            said = connection.transcript.text()
            connection.close()
        if isinstance(error, RelayError):
            error.transcript = said
            raise
        if isinstance(error, Exception):
            raise _unexpected(error, relay, said) from error
        raise


def _unexpected(error: Exception, relay: Relay, said: str) -> ConnectError:
    """Return the error for what neither the relay nor the network said: ours, or this machine's."""
    failure = ConnectError(
        f"could not connect to the relay {relay.name}: unexpected error: {named(error)}",
        phase=Phase.CONNECT,
        fault=Fault.OURSELVES,
    )
    failure.transcript = said
    return failure


class _State(Enum):
    #: Ready for ``start``.
    IDLE = auto()
    #: An opening is on its way; ``opening`` reads the answer.
    STARTED = auto()
    #: The relay waits for the body.
    OPEN = auto()
    #: Of no use any more.
    BROKEN = auto()


# Python 3.11 runs a function for each look-up of a member, and these are looked up for each mail.
_IDLE, _STARTED, _OPEN, _BROKEN = _State
_MAIL, _BODY, _DOT = Phase.MAIL, Phase.BODY, Phase.DOT


class Session:
    """One authenticated connection. Not thread-safe.

    A transaction is ``start``, ``opening``, and where that is open ``send_body``, ``finish``.
    With ``finish(following)`` the next one begins in the same write as the final dot: go on with
    ``opening``. Each call may raise ``RelayError``; the session is then broken, and ``close`` is
    all that is left to do with it.
    """

    def __init__(
        self, connection: Connection, capabilities: Capabilities, *, clock: Callable[[], float]
    ) -> None:
        relay = connection.relay
        if relay.pipelining is Pipelining.OFF:
            capabilities = replace(capabilities, has_pipelining=False)
        self.relay = relay
        self.capabilities = capabilities
        #: The next opening leaves with the final dot.
        self._is_early = capabilities.has_pipelining and relay.pipelining is Pipelining.FULL
        #: The relay has refused an opening that came with the final dot before it.
        self.refuses_early = False
        #: How many recipients a transaction may have, as far as the relay said; None: no limit.
        self.max_recipients = capabilities.max_recipients
        #: Transactions begun on this connection.
        self.transactions = 0
        self._connection = connection
        self._clock = clock
        self._last_used = clock()
        self._begin_until = self._last_used + relay.timeouts.session_s / 2
        self._max_transactions = min(
            capabilities.max_messages or relay.max_messages_per_connection,
            relay.max_messages_per_connection,
        )
        #: BROKEN while anything is under way: whatever goes wrong then, it stays so.
        self._state = _IDLE
        #: The relay has said that it will hang up.
        self._is_closing = False
        self._exchange: EnvelopeExchange | None = None
        self._needs_reset = False
        #: Recipients that stand in the transaction at hand.
        self._accepted = 0
        #: Its body, where that leaves together with the terminator.
        self._held_back = b""

    @property
    def pipelining(self) -> Pipelining:
        """Return how much is written before a reply is read."""
        if self._is_early:
            return Pipelining.FULL
        has_pipelining = self.capabilities.has_pipelining
        return Pipelining.TRANSACTION if has_pipelining else Pipelining.OFF

    @property
    def accepts_more(self) -> bool:
        """Return whether one more transaction may begin, now or with ``finish``."""
        return (
            self._state is not _BROKEN
            and not self._is_closing
            and self.transactions < self._max_transactions
            and self._clock() < self._begin_until
        )

    @property
    def is_usable(self) -> bool:
        """Return whether ``start`` may be called.

        Not after anything unexpected, after the most messages or the longest life of a
        connection, after too long an idle time, or where the relay has hung up meanwhile, which
        is looked up on the socket.
        """
        return (
            self._state is _IDLE
            and self.accepts_more
            and self._clock() - self._last_used < self.relay.idle_s
            and self._connection.is_idle()
        )

    @property
    def transcript(self) -> str:
        """Return what was said in the handshake and the last transaction, redacted and bounded."""
        return self._connection.transcript.text()

    def local_refusal(self, envelope: Envelope) -> Outcome | None:
        """Return why this relay could not take ``envelope``, as far as it announced; else None."""
        return local_refusal(envelope, self.capabilities)

    def send_envelope(self, envelope: Envelope) -> None:
        """Write MAIL, RCPT and DATA: all that may be written before a reply is read."""
        assert self._state is _IDLE, f"start() on a session that is {self._state.name}"
        exchange = self._begin(envelope)
        self._state = _BROKEN
        self._connection.transcript.begin(exchange.commands)
        write(self._connection, exchange.first_write(), _MAIL)
        self._state = _STARTED

    def read_envelope_replies(self) -> EnvelopeReplies:
        """Read the replies to what ``start`` or ``finish`` began.

        Where it is not open the transaction is over, and the session ready for the next one or
        broken (RFC 2920 section 3.1).
        """
        exchange = self._exchange
        assert exchange is not None, f"opening() on a session that is {self._state.name}"
        self._exchange = None
        self._state = _BROKEN
        self._connection.transcript.begin(exchange.commands)
        opening = exchange.read(self._connection)
        self._accepted = opening.accepted
        if not opening.all_accepted:
            self._learn(opening, exchange)
        if opening.is_ready_for_content:
            self._connection.assert_no_early_reply(_BODY)
            self._state = _OPEN
        else:
            self._become_idle()
        return opening

    def send_content(self, chunks: Iterable[bytes]) -> None:
        """Write the content, all but its terminator; ``chunks`` end with CRLF.

        A failure is never in doubt: without the terminator the relay has nothing. Afterwards
        ``finish`` can write at once, however slowly the relay reads: who calls it has made sure
        just before that the mail may still go out.
        """
        assert self._state is _OPEN, f"send_body() on a session that is {self._state.name}"
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

    def end_data(self, following: Envelope | None = None) -> tuple[Reply, ...]:
        """Write the terminator, and with it the opening of ``following``; read the verdict.

        Returns one reply for each recipient that stood, in order: the same for all of them over
        SMTP, one of its own each over LMTP. Where ``following`` was given call ``opening`` next.

        Raises:
            RelayError: with ``in_doubt`` where the terminator may have reached the relay.
        """
        assert self._state is _OPEN, f"finish() on a session that is {self._state.name}"
        after = b""
        if following is not None:
            exchange = self._begin(following)
            if self._is_early:
                after = exchange.first_write(is_early=True)
        self._state = _BROKEN
        self._connection.transcript.add(_TERMINATOR)
        replies = self._read_final_replies(after)
        self._is_closing = replies[-1].code == _CLOSING
        if following is None:
            self._become_idle()
        else:
            self._state = _STARTED
        return replies

    def finish_and_reset(self) -> tuple[tuple[Reply, ...], Reply]:
        """Finish with RSET in the same write: return the verdict, and the reply to RSET.

        That shows whether the relay takes a command that comes with the final dot before it, and
        begins nothing. The session is of no use afterwards where it does not.

        Raises:
            RelayError: with ``in_doubt`` where the terminator may have reached the relay.
        """
        assert self._state is _OPEN, f"finish_and_reset() on a session that is {self._state.name}"
        self._state = _BROKEN
        self._connection.transcript.add(_TERMINATOR)
        replies = self._read_final_replies(RESET)
        try:
            reply = self._connection.expect(_MAIL)
        except RelayError as error:
            self.refuses_early = True
            return replies, Reply(code=0, lines=(str(error),))
        self.refuses_early = self._is_closing = not reply.is_positive
        self._become_idle()
        return replies, reply

    def quit(self) -> None:
        """Take leave politely where that is possible, within two seconds, and close."""
        try:
            if self._state is _IDLE:
                deadline = self._clock() + _QUIT_S
                self._connection.write(b"QUIT\r\n", _QUIT_S, _DOT)
                self._connection.read_reply(deadline - self._clock(), _DOT)
        except RelayError:
            pass  # every mail has its outcome; nobody needs this answer
        finally:
            self.close()

    def abort(self) -> None:
        """Hang up, from another thread: a call under way fails as if the relay had."""
        self._connection.abort()

    def close(self) -> None:
        """Close at once; a relay that waits for a body discards what it has of it."""
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

    def _learn(self, opening: EnvelopeReplies, exchange: EnvelopeExchange) -> None:
        """Take note of what the refusals of an opening mean for the next one."""
        self._needs_reset = exchange.needs_reset
        self._is_closing = self._is_closing or exchange.is_closing
        self.refuses_early = self.refuses_early or opening.is_misplaced
        most = opening.most_recipients
        if most is not None and (self.max_recipients is None or most < self.max_recipients):
            self.max_recipients = most

    def _read_final_replies(self, after: bytes) -> tuple[Reply, ...]:
        """Write what is left, the terminator and what comes ``after`` it; read the verdict."""
        connection = self._connection
        unsent, self._held_back = self._held_back, b""
        harmless = connection.written + len(unsent)
        expected = self._accepted if self.relay.is_lmtp else 1
        replies: list[Reply] = []
        try:
            content = b"".join((unsent, _TERMINATOR, after))
            connection.write(content, min(_FINAL_DOT_S, self.relay.timeouts.body_s), _BODY)
            while len(replies) < expected:
                replies.append(connection.expect(_DOT))
        except RelayError as error:
            # What the socket did not take, the relay has not seen.
            error.in_doubt = connection.written > harmless
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
