"""A connected socket that waits only where it must, and never past a deadline.

It is not blocking: what the socket takes at once costs one call, and only waiting for more is left
to others.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from postroom.errors import TLSError
from postroom.relays.options import TlsMode
from postroom.relays.relay import Relay
from postroom.smtp.readiness import wait_ready
from postroom.states import Phase

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def ssl_context_for(relay: Relay) -> ssl.SSLContext:
    """Return the TLS settings for ``relay``.

    Made once: reading the system's authorities takes longer than sending a hundred mails. Made
    again when a file it was made from is renewed.

    Raises:
        TLSError: a certificate, key or CA file cannot be used.
    """
    files = (relay.ca, relay.cert, relay.key)
    try:
        renewed = tuple(Path(file).stat().st_mtime_ns if file else 0 for file in files)
        return _context(relay.tls, relay.min_tls, files, renewed)
    except (OSError, ssl.SSLError) as error:
        named = ", ".join(file for file in files if file)
        raise TLSError(
            f"expected ca=, cert= and key= of the relay {relay.name} to be readable PEM files, "
            f"got: {error} ({named})",
            phase=Phase.STARTTLS,
        ) from error


@lru_cache(maxsize=32)
def _context(
    tls: TlsMode, min_tls: str, files: tuple[str | None, ...], renewed: tuple[int, ...]
) -> ssl.SSLContext:
    del renewed  # part of the key only
    ca, cert, key = files
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = _VERSIONS[min_tls]
    if tls is TlsMode.OPPORTUNISTIC:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert:
        # An encrypted key would otherwise ask for its password on the terminal.
        context.load_cert_chain(cert, key, password=lambda: "")
    return context


def explain_tls_error(error: Exception, relay: Relay) -> str:
    """Return in words why a TLS handshake failed, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"expected a certificate for {relay.host} that we can verify, got: "
            f"{error.verify_message}; for an authority of your own give its file as ca=FILE"
        )
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return (
            f"expected TLS from {relay.host}:{relay.port}, got: clear text; a port that begins "
            "in clear text (25, 587) wants smtp://, one that begins with TLS (465) smtps://"
        )
    reason = getattr(error, "reason", None) or error
    return f"expected a TLS handshake with {relay.host}:{relay.port}, got: {reason}"


#: The longest wait without a look at the clock: timers stand still while a machine is suspended.
_LOOK_UP_S = 5.0
#: More than a TLS record holds: after a read nothing is left that a wait would not see.
_READ_BYTES = 65_536
#: The socket has nothing, or no room, at the moment.
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
#: TLS may have to read before it can write, and the other way round.
_WANTED: dict[type[OSError], int] = {
    ssl.SSLWantReadError: select.POLLIN,
    ssl.SSLWantWriteError: select.POLLOUT,
}


class NetworkStream:
    """Bytes out, bytes in; failures are ``OSError``, a deadline that passed ``TimeoutError``.

    ``clock`` is monotonic, in seconds, and running on while the machine is suspended; so are
    deadlines.
    """

    __slots__ = ("_clock", "_socket", "_wanted", "written")

    def __init__(self, connected: socket.socket, *, clock: Callable[[], float]) -> None:
        #: Bytes handed to the socket so far.
        self.written = 0
        self._clock = clock
        self._socket = connected
        self._socket.setblocking(False)
        #: What to wait for before the socket can be tried again.
        self._wanted = select.POLLIN

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """Return the encrypted socket, where it is encrypted."""
        return self._socket if isinstance(self._socket, ssl.SSLSocket) else None

    @property
    def local_address(self) -> str:
        """Return the address we speak from; empty for a Unix socket."""
        name = self._socket.getsockname()
        return name[0] if isinstance(name, tuple) else ""

    @property
    def peer(self) -> object:
        """Return the address of the other side, as its socket family has it."""
        return self._socket.getpeername()

    def encrypt(self, context: ssl.SSLContext, host: str, timeout_s: float) -> None:
        """Speak TLS from here on; where that fails the socket is closed.

        Raises:
            OSError, ValueError: the handshake failed.
        """
        try:
            # Of one that was reset meanwhile, wrap_socket() would leave a socket open.
            self._socket.getpeername()
            self._socket.settimeout(max(timeout_s, 0.001))
            self._socket = context.wrap_socket(self._socket, server_hostname=host)
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def write(self, content: bytes, deadline: float) -> None:
        """Write all of ``content``; ``written`` says how much of it was, where it fails."""
        sent = self._write_now(content)
        self.written += sent
        if sent < len(content):
            self._write_rest(memoryview(content)[sent:], deadline)

    def wait_writable(self, deadline: float) -> None:
        """Wait until the socket would take more at once, and not a few bytes only."""
        self._wanted = select.POLLOUT
        self._wait(deadline)

    def read(self, deadline: float) -> bytes:
        """Return what comes next."""
        self._wanted = select.POLLIN
        self._wait(deadline)
        while (received := self.read_now()) is None:
            self._wait(deadline)
        return received

    def read_now(self) -> bytes | None:
        """Return what has come already; None where nothing has."""
        try:
            received = self._socket.recv(_READ_BYTES)
        except _NOT_NOW as error:
            self._wanted = _WANTED.get(type(error), select.POLLIN)
            return None
        if not received:
            raise ConnectionResetError("the relay closed the connection")
        return received

    def shutdown(self) -> None:
        """Cut the line under whoever is reading or writing, from another thread."""
        with suppress(OSError):
            # Of the plain socket: TLS would want to say goodbye, in the midst of a read.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket, without a word."""
        self._socket.close()

    def _write_rest(self, rest: memoryview, deadline: float) -> None:
        while rest:
            sent = self._write_now(rest)
            if not sent:
                self._wait(deadline)
            self.written += sent
            rest = rest[sent:]

    def _write_now(self, content: bytes | memoryview) -> int:
        """Hand over what the socket takes without waiting; return how many bytes it took."""
        try:
            return self._socket.send(content)
        except _NOT_NOW as error:
            self._wanted = _WANTED.get(type(error), select.POLLOUT)
            return 0

    def _wait(self, deadline: float) -> None:
        while (remaining_s := deadline - self._clock()) > 0:
            if wait_ready(self._socket.fileno(), self._wanted, min(remaining_s, _LOOK_UP_S)):
                return
        raise TimeoutError
