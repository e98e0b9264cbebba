"""One socket to a relay: whole writes, whole replies, each under a deadline nobody gets around."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from postroom.smtp.dial import dial
from postroom.smtp.replies import MalformedReply, ReplyParser
from postroom.smtp.tls import context_for, explain
from postroom.smtp.transcript import Transcript
from postroom.values.errors import Disconnected, RelayTimeout, TLSError
from postroom.values.relay import Relay
from postroom.values.relay_options import Tls
from postroom.values.reply import Reply
from postroom.values.states import Phase

_READ_BYTES = 65_536
#: The socket has nothing, or no room, at the moment.
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
#: TLS may have to read before it can write, and the other way round.
_WANTED = {ssl.SSLWantReadError: select.POLLIN, ssl.SSLWantWriteError: select.POLLOUT}
# Python 3.11 runs a function for each look-up of a member, and these are looked up for each reply.
_DATA, _DOT = Phase.DATA, Phase.DOT


class Connection:
    """Bytes out, replies in. Every failure is a ``RelayError`` that names the phase.

    ``clock`` is monotonic, in seconds. Nothing waits past ``ends_at``, whatever its own timeout.
    """

    __slots__ = (
        "_clock",
        "_ends_at",
        "_poll",
        "_replies",
        "_socket",
        "_wanted",
        "relay",
        "transcript",
        "written",
    )

    def __init__(self, relay: Relay, *, clock: Callable[[], float]) -> None:
        """Connect, with TLS from the start where the relay's scheme says so.

        Raises:
            ConnectError, TLSError, RelayTimeout: it could not be done.
        """
        self.relay = relay
        self.transcript = Transcript()
        #: Bytes handed to the socket so far.
        self.written = 0
        self._clock = clock
        self._replies = ReplyParser()
        began = clock()
        self._ends_at = began + relay.timeouts.session_s
        deadline = began + min(relay.timeouts.connect_s, relay.timeouts.session_s)
        self._poll = select.poll()
        #: What to wait for before the socket can be tried again.
        self._wanted = select.POLLIN
        self._socket = dial(relay, clock=clock, deadline=deadline)
        self._socket.setblocking(False)
        if relay.scheme == "smtps":
            self.encrypt(deadline - clock(), phase=Phase.CONNECT)

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """Return the encrypted socket, where it is encrypted."""
        return self._socket if isinstance(self._socket, ssl.SSLSocket) else None

    @property
    def is_private(self) -> bool:
        """Return whether nobody but the relay we mean can read along."""
        return bool(self.relay.path) or (self.tls is not None and self.relay.tls is Tls.REQUIRED)

    @property
    def local_address(self) -> str:
        """Return the address we speak from; empty for a Unix socket."""
        name = self._socket.getsockname()
        return name[0] if isinstance(name, tuple) else ""

    @property
    def peer(self) -> object:
        """Return the address of the relay, as its socket family has it."""
        return self._socket.getpeername()

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
        context = context_for(self.relay)
        self._socket.settimeout(max(timeout_s, 0.001))
        try:
            self._socket = context.wrap_socket(self._socket, server_hostname=self.relay.host)
        except TimeoutError:
            raise RelayTimeout(
                f"expected {self.relay.host} to finish the TLS handshake in time, got: silence",
                phase=phase,
            ) from None
        except (OSError, ValueError) as error:
            raise TLSError(explain(error, self.relay), phase=phase) from error
        self._socket.setblocking(False)

    def command(
        self, line: str, phase: Phase, *, shown: str | None = None, conceal: tuple[str, ...] = ()
    ) -> Reply:
        """Send one command and return the reply to it.

        ``shown`` stands for ``line`` in the transcript; each text in ``conceal`` is masked where
        the relay's reply repeats it.

        Raises:
            RelayError: the conversation broke.
        """
        self.transcript.add((line if shown is None else shown).encode())
        self.write(f"{line}\r\n".encode(), self.relay.timeouts.command_s, phase)
        reply = self._read(self.relay.timeouts.command_s, phase)
        if conceal:
            reply = _concealed(reply, conceal)
        self.transcript.add(reply)
        return reply

    def write(self, content: bytes, timeout_s: float, phase: Phase) -> None:
        """Write all of ``content``; ``written`` says how much of it was, where it fails.

        Raises:
            RelayTimeout, Disconnected: it was not written whole.
        """
        try:
            # Nearly always the socket takes all of it at once.
            self.written += (sent := self._send_now(content))
            if sent < len(content):
                self._write_rest(memoryview(content)[sent:], self._deadline(timeout_s))
        except OSError as error:
            raise self._failed(error, phase) from error

    def read_reply(self, timeout_s: float, phase: Phase) -> Reply:
        """Return the next reply.

        Raises:
            RelayTimeout, Disconnected: there was none, or it was none.
        """
        reply = self._read(timeout_s, phase)
        self.transcript.add(reply)
        return reply

    def expect(self, phase: Phase) -> Reply:
        """Return the reply to the command of ``phase``, one of those that may follow it.

        Raises:
            RelayTimeout, Disconnected: there was none, or one that belongs to something else.
        """
        timeouts = self.relay.timeouts
        timeout_s = timeouts.dot_s if phase is _DOT else timeouts.command_s
        reply = self._read(timeout_s, phase)
        self.transcript.add(reply)
        good = 3 if phase is _DATA else 2
        if reply.code // 100 != good and reply.code < 400:
            raise Disconnected(
                f"expected {self.relay.name} to answer {phase} with {good}xx, 4xx or 5xx, got: "
                f"{reply}; replies are out of step",
                phase=phase,
            )
        return reply

    def refuse_more(self, phase: Phase) -> None:
        """Make sure that no reply has come already to what is not said yet.

        Raises:
            Disconnected: one has.
        """
        if not self._replies.is_empty:
            raise Disconnected(
                f"expected {self.relay.name} to wait for {phase}, got: a reply before it; replies "
                "are out of step",
                phase=phase,
                reply=self.last_words(),
            )

    def last_words(self) -> Reply | None:
        """Return a refusal that has arrived already, if any: why the relay hung up."""
        try:
            if self._replies.is_empty:
                self._receive_now()
            reply = self._replies.next()
        except (OSError, MalformedReply):
            return None
        if reply is None or reply.code < 400:
            return None
        self.transcript.add(reply)
        return reply

    def is_quiet(self) -> bool:
        """Return whether the connection stands, and nothing came that nobody asked for."""
        try:
            return self._replies.is_empty and self._receive_now() is None
        except OSError:
            return False

    def cut(self) -> None:
        """Cut the line under whoever is reading or writing, from another thread."""
        with suppress(OSError):
            # Of the plain socket: TLS would want to say goodbye, in the midst of a read.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket, without a word."""
        self._socket.close()

    def _read(self, timeout_s: float, phase: Phase) -> Reply:
        try:
            reply = self._replies.next()
            if reply is None:
                deadline = self._deadline(timeout_s)
                while reply is None:
                    self._receive(deadline)
                    reply = self._replies.next()
            return reply
        except MalformedReply as error:
            raise Disconnected(
                f"expected an SMTP reply from {self.relay.name} ({phase}), got: {error}",
                phase=phase,
            ) from None
        except OSError as error:
            raise self._failed(error, phase) from error

    def _deadline(self, timeout_s: float) -> float:
        return min(self._clock() + timeout_s, self._ends_at)

    def _receive(self, deadline: float) -> None:
        # A read takes a whole TLS record: nothing is left that poll() would not see.
        self._wanted = select.POLLIN
        self._wait(deadline)
        while self._receive_now() is None:
            self._wait(deadline)

    def _receive_now(self) -> bytes | None:
        """Take what has arrived already; None where nothing has."""
        try:
            received = self._socket.recv(_READ_BYTES)
        except _NOT_NOW as error:
            self._wanted = _WANTED.get(type(error), select.POLLIN)
            return None
        if not received:
            raise ConnectionResetError("the relay closed the connection")
        self._replies.feed(received)
        return received

    def _write_rest(self, rest: memoryview, deadline: float) -> None:
        while rest:
            if not (sent := self._send_now(rest)):
                self._wait(deadline)
            self.written += sent
            rest = rest[sent:]

    def _send_now(self, content: bytes | memoryview) -> int:
        """Hand over what the socket takes without waiting; return how many bytes it took."""
        try:
            return self._socket.send(content)
        except _NOT_NOW as error:
            self._wanted = _WANTED.get(type(error), select.POLLOUT)
            return 0

    def _wait(self, deadline: float) -> None:
        """Wait until the socket can be tried again.

        Raises:
            TimeoutError: it was not, until the deadline.
        """
        self._poll.register(self._socket, self._wanted)
        remaining_s = deadline - self._clock()
        if remaining_s <= 0 or not self._poll.poll(remaining_s * 1000):
            raise TimeoutError

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


def _concealed(reply: Reply, secrets: tuple[str, ...]) -> Reply:
    lines = reply.lines
    for secret in filter(None, secrets):
        lines = tuple(line.replace(secret, "***") for line in lines)
    return Reply(code=reply.code, lines=lines)
