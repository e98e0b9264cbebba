"""A connection to a relay: whole writes and whole replies.

Each of them has a deadline that a slow relay cannot extend, and every failure is a ``RelayError``.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from postroom.errors import Disconnected, RelayTimeout, TLSError
from postroom.relays.options import TlsMode
from postroom.relays.relay import Relay
from postroom.smtp.dial import dial
from postroom.smtp.reply import Reply
from postroom.smtp.reply_parser import MalformedReply, ReplyParser
from postroom.smtp.stream import NetworkStream, explain_tls_error, ssl_context_for
from postroom.smtp.transcript import Redactor, Transcript
from postroom.states import Phase

# Python 3.11 runs a function for each look-up of a member, and these are looked up for each reply.
_AUTH, _DATA, _DOT = Phase.AUTH, Phase.DATA, Phase.DOT


class Connection:
    """Writes bytes, reads replies. Every failure is a ``RelayError`` that names the phase.

    Nothing waits longer than ``Timeouts.session_s`` after the connection was made, whatever its
    own timeout.

    Args:
        relay: Where to connect to, and how.
        clock: A monotonic clock, in seconds.

    Attributes:
        relay: The relay on the other side.
        transcript: What both sides said, with credentials masked.
    """

    __slots__ = ("_clock", "_ends_at", "_redactor", "_replies", "_stream", "relay", "transcript")

    def __init__(self, relay: Relay, *, clock: Callable[[], float]) -> None:
        """Connect; with TLS from the start if the scheme is ``smtps``.

        Raises:
            ConnectError, TLSError, RelayTimeout: The connection could not be made.
        """
        self.relay = relay
        self.transcript = Transcript()
        self._clock = clock
        self._replies = ReplyParser()
        self._redactor: Redactor | None = None
        start = clock()
        self._ends_at = start + relay.timeouts.session_s
        deadline = start + min(relay.timeouts.connect_s, relay.timeouts.session_s)
        self._stream = NetworkStream(dial(relay, clock=clock, deadline=deadline), clock=clock)
        if relay.scheme == "smtps":
            self.encrypt(deadline - clock(), phase=Phase.CONNECT)

    @property
    def written(self) -> int:
        """Return how many bytes the socket has taken so far."""
        return self._stream.written

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """Return the TLS socket; None if the connection is not encrypted."""
        return self._stream.tls

    @property
    def is_confidential(self) -> bool:
        """Return whether only the intended relay can read what is sent.

        True for a Unix socket, and for TLS with a verified certificate.
        """
        return bool(self.relay.path) or (
            self.tls is not None and self.relay.tls is TlsMode.REQUIRED
        )

    @property
    def local_address(self) -> str:
        """Return our own IP address; empty for a Unix socket."""
        return self._stream.local_address

    @property
    def peer(self) -> object:
        """Return the socket address of the relay, in the form of its family."""
        return self._stream.peer

    def encrypt(self, timeout_s: float, *, phase: Phase) -> None:
        """Start TLS.

        Args:
            timeout_s: The longest time for the handshake, in seconds.
            phase: The phase that an error names.

        Raises:
            TLSError: The handshake failed, or unencrypted bytes have already arrived that would
                otherwise be read as the relay's (RFC 3207 section 6).
            RelayTimeout: it took too long.
        """
        if not self._replies.is_empty:
            raise TLSError(
                f"{self.relay.host} sent unencrypted bytes after STARTTLS; somebody may be "
                "tampering with the connection",
                phase=phase,
            )
        context = ssl_context_for(self.relay)
        try:
            self._stream.encrypt(context, self.relay.host, timeout_s)
        except TimeoutError:
            raise RelayTimeout(
                f"{self.relay.host} did not finish the TLS handshake in time",
                phase=phase,
            ) from None
        except (OSError, ValueError) as error:
            raise TLSError(explain_tls_error(error, self.relay), phase=phase) from error

    def mask(self, *secrets: str) -> None:
        """Mask ``secrets`` in all later replies, also where the relay repeats a part of them.

        Args:
            secrets: Credentials that are about to be sent, in clear text and in the form in which
                they are sent.
        """
        if self._redactor is None:
            self._redactor = Redactor()
        self._redactor.add(*secrets)

    def command(self, line: str, phase: Phase, *, shown: str | None = None) -> Reply:
        """Send one command and return the reply.

        Args:
            line: The command, without CRLF.
            phase: The phase of the command.
            shown: What the transcript shows instead of ``line``.

        Raises:
            RelayError: The connection broke, or the reply cannot be read.
        """
        self.transcript.add((line if shown is None else shown).encode())
        self.write(f"{line}\r\n".encode(), self.relay.timeouts.command_s, phase)
        reply = self._read(phase)
        self.transcript.add(reply)
        return reply

    def write(self, content: bytes, timeout_s: float, phase: Phase) -> None:
        """Write all of ``content``; if that fails, ``written`` tells how much was written.

        Args:
            content: The bytes to write.
            timeout_s: The longest time for all of them, in seconds.
            phase: The phase that an error names.

        Raises:
            RelayTimeout, Disconnected: Not everything was written.
        """
        try:
            self._stream.write(content, self._deadline(timeout_s))
        except OSError as error:
            raise self._error(error, phase) from error

    def wait_writable(self, timeout_s: float, phase: Phase) -> None:
        """Wait until the socket has room for a short write.

        Args:
            timeout_s: The longest wait, in seconds.
            phase: The phase that an error names.

        Raises:
            RelayTimeout, Disconnected: The relay stopped reading.
        """
        try:
            self._stream.wait_writable(self._deadline(timeout_s))
        except OSError as error:
            raise self._error(error, phase) from error

    def read_reply(self, timeout_s: float, phase: Phase) -> Reply:
        """Return the next reply, whatever its code.

        Args:
            timeout_s: The longest wait for the whole reply, in seconds.
            phase: The phase that an error names.

        Raises:
            RelayTimeout, Disconnected: No reply arrived, or the bytes are not a reply.
        """
        reply = self._read(phase, timeout_s)
        self.transcript.add(reply)
        return reply

    def expect(self, phase: Phase) -> Reply:
        """Return the reply to the command of ``phase``, and check that its code fits.

        Args:
            phase: The command: DATA is answered by 3xx, every other one by 2xx; both by 4xx or 5xx.

        Raises:
            RelayTimeout, Disconnected: No reply arrived, or one to something else.
        """
        reply = self._read(phase)
        self.transcript.add(reply)
        success = 3 if phase is _DATA else 2
        if reply.code // 100 != success and reply.code < 400:
            raise Disconnected(
                f"the relay {self.relay.name} answered {phase} with {reply}, not with "
                f"{success}xx, 4xx or 5xx; its replies are out of step",
                phase=phase,
            )
        return reply

    def assert_no_early_reply(self, phase: Phase) -> None:
        """Check that no reply has arrived to something that was not sent yet.

        Args:
            phase: What is sent next.

        Raises:
            Disconnected: A reply has arrived.
        """
        if not self._replies.is_empty:
            raise Disconnected(
                f"the relay {self.relay.name} replied before {phase} was sent; its replies are "
                "out of step",
                phase=phase,
                reply=self.pending_refusal(),
            )

    def pending_refusal(self) -> Reply | None:
        """Return the refusal that a relay sent before it hung up; None if there is none."""
        try:
            if self._replies.is_empty and (received := self._stream.read_now()):
                self._replies.feed(received)
            reply = self._replies.next()
        except (OSError, MalformedReply):
            return None
        if reply is None or reply.code < 400:
            return None
        reply = self._masked(reply)
        self.transcript.add(reply)
        return reply

    def is_idle(self) -> bool:
        """Return whether the connection is open, and no unexpected bytes have arrived."""
        try:
            return self._replies.is_empty and self._stream.read_now() is None
        except OSError:
            return False

    def abort(self) -> None:
        """Shut the connection down from another thread; a running read or write fails."""
        self._stream.shutdown()

    def close(self) -> None:
        """Close the socket without QUIT."""
        self._stream.close()

    def _read(self, phase: Phase, timeout_s: float | None = None) -> Reply:
        """Return the next reply, within ``timeout_s`` or the timeout of its phase."""
        try:
            reply = self._replies.next()
            if reply is None:
                timeouts = self.relay.timeouts
                phase_s = timeouts.dot_s if phase is _DOT else timeouts.command_s
                deadline = self._deadline(phase_s if timeout_s is None else timeout_s)
                while reply is None:
                    self._replies.feed(self._stream.read(deadline))
                    reply = self._replies.next()
            # Only refusals repeat what was sent; accepted mails skip the search.
            return self._masked(reply) if reply.code >= 400 or phase is _AUTH else reply
        except MalformedReply as error:
            text = str(error) if self._redactor is None else self._redactor.mask_text(str(error))
            raise Disconnected(
                f"{self.relay.name} sent no SMTP reply ({phase}), but {text}",
                phase=phase,
            ) from None
        except OSError as error:
            raise self._error(error, phase) from error

    def _masked(self, reply: Reply) -> Reply:
        return reply if self._redactor is None else self._redactor.mask_reply(reply)

    def _deadline(self, timeout_s: float) -> float:
        return min(self._clock() + timeout_s, self._ends_at)

    def _error(self, error: OSError, phase: Phase) -> RelayTimeout | Disconnected:
        if isinstance(error, TimeoutError):
            return RelayTimeout(
                f"the relay {self.relay.name} did not answer in time, or too slowly ({phase})",
                phase=phase,
            )
        reason = getattr(error, "strerror", None) or error
        return Disconnected(
            f"the connection to the relay {self.relay.name} was lost ({phase}): {reason}",
            phase=phase,
        )
