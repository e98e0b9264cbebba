"""One line to a relay: whole writes, whole replies, each under a deadline nobody gets around."""

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
from postroom.smtp.transcript import Concealment, Transcript
from postroom.states import Phase

# Python 3.11 runs a function for each look-up of a member, and these are looked up for each reply.
_AUTH, _DATA, _DOT = Phase.AUTH, Phase.DATA, Phase.DOT


class Connection:
    """Bytes out, replies in. Every failure is a ``RelayError`` that names the phase.

    ``clock`` is monotonic, in seconds. Nothing waits past ``ends_at``, whatever its own timeout.
    """

    __slots__ = ("_clock", "_concealment", "_ends_at", "_replies", "_stream", "relay", "transcript")

    def __init__(self, relay: Relay, *, clock: Callable[[], float]) -> None:
        """Connect, with TLS from the start where the relay's scheme says so.

        Raises:
            ConnectError, TLSError, RelayTimeout: it could not be done.
        """
        self.relay = relay
        self.transcript = Transcript()
        self._clock = clock
        self._replies = ReplyParser()
        self._concealment: Concealment | None = None
        began = clock()
        self._ends_at = began + relay.timeouts.session_s
        deadline = began + min(relay.timeouts.connect_s, relay.timeouts.session_s)
        self._stream = NetworkStream(dial(relay, clock=clock, deadline=deadline), clock=clock)
        if relay.scheme == "smtps":
            self.encrypt(deadline - clock(), phase=Phase.CONNECT)

    @property
    def written(self) -> int:
        """Return how many bytes have been handed to the socket so far."""
        return self._stream.written

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """Return the encrypted socket, where it is encrypted."""
        return self._stream.tls

    @property
    def is_confidential(self) -> bool:
        """Return whether nobody but the relay we mean can read along."""
        return bool(self.relay.path) or (
            self.tls is not None and self.relay.tls is TlsMode.REQUIRED
        )

    @property
    def local_address(self) -> str:
        """Return the address we speak from; empty for a Unix socket."""
        return self._stream.local_address

    @property
    def peer(self) -> object:
        """Return the address of the relay, as its socket family has it."""
        return self._stream.peer

    def encrypt(self, timeout_s: float, *, phase: Phase) -> None:
        """Speak TLS from here on.

        Raises:
            TLSError: the handshake failed, or clear text waits already that would later pass
                for the relay's own words (RFC 3207 section 6).
            RelayTimeout: it took too long.
        """
        if not self._replies.is_empty:
            raise TLSError(
                "expected nothing between STARTTLS and TLS, got: more clear text; somebody "
                "may be tampering with the connection",
                phase=phase,
            )
        context = ssl_context_for(self.relay)
        try:
            self._stream.encrypt(context, self.relay.host, timeout_s)
        except TimeoutError:
            raise RelayTimeout(
                f"expected {self.relay.host} to finish the TLS handshake in time, got: silence",
                phase=phase,
            ) from None
        except (OSError, ValueError) as error:
            raise TLSError(explain_tls_error(error, self.relay), phase=phase) from error

    def conceal(self, *secrets: str) -> None:
        """Mask ``secrets`` from now on wherever the relay repeats them, or a part of them.

        Args:
            secrets: Credentials that are about to be sent, clear and as they are sent.
        """
        if self._concealment is None:
            self._concealment = Concealment()
        self._concealment.add(*secrets)

    def command(self, line: str, phase: Phase, *, shown: str | None = None) -> Reply:
        """Send one command and return the reply to it.

        ``shown`` stands for ``line`` in the transcript.

        Raises:
            RelayError: the conversation broke.
        """
        self.transcript.add((line if shown is None else shown).encode())
        self.write(f"{line}\r\n".encode(), self.relay.timeouts.command_s, phase)
        reply = self._read(phase)
        self.transcript.add(reply)
        return reply

    def write(self, content: bytes, timeout_s: float, phase: Phase) -> None:
        """Write all of ``content``; ``written`` says how much of it was, where it fails.

        Raises:
            RelayTimeout, Disconnected: it was not written whole.
        """
        try:
            self._stream.write(content, self._deadline(timeout_s))
        except OSError as error:
            raise self._failed(error, phase) from error

    def wait_writable(self, timeout_s: float, phase: Phase) -> None:
        """Wait until a short write would be taken at once.

        Raises:
            RelayTimeout, Disconnected: the other side does not read on.
        """
        try:
            self._stream.wait_writable(self._deadline(timeout_s))
        except OSError as error:
            raise self._failed(error, phase) from error

    def read_reply(self, timeout_s: float, phase: Phase) -> Reply:
        """Return the next reply.

        Raises:
            RelayTimeout, Disconnected: there was none, or it was none.
        """
        reply = self._read(phase, timeout_s)
        self.transcript.add(reply)
        return reply

    def expect(self, phase: Phase) -> Reply:
        """Return the reply to the command of ``phase``, one of those that may follow it.

        Raises:
            RelayTimeout, Disconnected: there was none, or one that belongs to something else.
        """
        reply = self._read(phase)
        self.transcript.add(reply)
        good = 3 if phase is _DATA else 2
        if reply.code // 100 != good and reply.code < 400:
            raise Disconnected(
                f"expected {self.relay.name} to answer {phase} with {good}xx, 4xx or 5xx, got: "
                f"{reply}; replies are out of step",
                phase=phase,
            )
        return reply

    def assert_no_early_reply(self, phase: Phase) -> None:
        """Make sure that no reply has come already to what is not said yet.

        Raises:
            Disconnected: one has.
        """
        if not self._replies.is_empty:
            raise Disconnected(
                f"expected {self.relay.name} to wait for {phase}, got: a reply before it; replies "
                "are out of step",
                phase=phase,
                reply=self.pending_refusal(),
            )

    def pending_refusal(self) -> Reply | None:
        """Return a refusal that has arrived already, if any: why the relay hung up."""
        try:
            if self._replies.is_empty and (received := self._stream.read_now()):
                self._replies.feed(received)
            reply = self._replies.next()
        except (OSError, MalformedReply):
            return None
        if reply is None or reply.code < 400:
            return None
        reply = self._concealed(reply)
        self.transcript.add(reply)
        return reply

    def is_idle(self) -> bool:
        """Return whether the connection stands, and nothing came that nobody asked for."""
        try:
            return self._replies.is_empty and self._stream.read_now() is None
        except OSError:
            return False

    def abort(self) -> None:
        """Cut the line under whoever is reading or writing, from another thread."""
        self._stream.shutdown()

    def close(self) -> None:
        """Close the socket, without a word."""
        self._stream.close()

    def _read(self, phase: Phase, timeout_s: float | None = None) -> Reply:
        """Return the next reply, within ``timeout_s`` or what its phase is granted."""
        try:
            reply = self._replies.next()
            if reply is None:
                timeouts = self.relay.timeouts
                granted_s = timeouts.dot_s if phase is _DOT else timeouts.command_s
                deadline = self._deadline(granted_s if timeout_s is None else timeout_s)
                while reply is None:
                    self._replies.feed(self._stream.read(deadline))
                    reply = self._replies.next()
            # Relays repeat what they refuse; the look is spared for each mail they accept.
            return self._concealed(reply) if reply.code >= 400 or phase is _AUTH else reply
        except MalformedReply as error:
            said = str(error) if self._concealment is None else self._concealment.text(str(error))
            raise Disconnected(
                f"expected an SMTP reply from {self.relay.name} ({phase}), got: {said}",
                phase=phase,
            ) from None
        except OSError as error:
            raise self._failed(error, phase) from error

    def _concealed(self, reply: Reply) -> Reply:
        return reply if self._concealment is None else self._concealment.reply(reply)

    def _deadline(self, timeout_s: float) -> float:
        return min(self._clock() + timeout_s, self._ends_at)

    def _failed(self, error: OSError, phase: Phase) -> RelayTimeout | Disconnected:
        if isinstance(error, TimeoutError):
            return RelayTimeout(
                f"expected {self.relay.name} to go on in time ({phase}), got: silence, or too "
                "slow a drip",
                phase=phase,
            )
        reason = getattr(error, "strerror", None) or error
        return Disconnected(
            f"expected {self.relay.name} to keep the connection ({phase}), got: {reason}",
            phase=phase,
        )
