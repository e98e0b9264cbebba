"""A connected socket with deadlines, and TLS for it.

The socket is non-blocking: a write or read that needs no wait is one system call, and every wait
goes through ``readiness``, so that only the task of the scheduler waits.
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

#: The longest wait before the clock is read again: timers stop while a machine is suspended.
_MAX_WAIT_S = 5.0
#: More than a TLS record: nothing stays in the TLS buffer, where ``poll`` would not see it.
_READ_BYTES = 65_536
#: There is nothing to read, or no room to write, at the moment.
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
#: TLS may have to read before it can write, and the other way round.
_POLL_EVENTS: dict[type[OSError], int] = {
    ssl.SSLWantReadError: select.POLLIN,
    ssl.SSLWantWriteError: select.POLLOUT,
}
#: ``Relay.min_tls`` as the ssl module has it.
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class NetworkStream:
    """Writes and reads bytes. Failures are ``OSError``; a missed deadline is ``TimeoutError``.

    Args:
        connected: A connected socket; the stream owns it.
        clock: A monotonic clock, in seconds, that also runs while the machine is suspended.
            Deadlines are times of this clock.

    Attributes:
        written: How many bytes the socket has taken so far.
    """

    __slots__ = ("_clock", "_socket", "_wanted", "written")

    def __init__(self, connected: socket.socket, *, clock: Callable[[], float]) -> None:
        self.written = 0
        self._clock = clock
        self._socket = connected
        self._socket.setblocking(False)
        #: What to wait for before the socket is tried again.
        self._wanted = select.POLLIN

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """Return the TLS socket; None if the connection is not encrypted."""
        return self._socket if isinstance(self._socket, ssl.SSLSocket) else None

    @property
    def local_address(self) -> str:
        """Return our own IP address; empty for a Unix socket."""
        name = self._socket.getsockname()
        return name[0] if isinstance(name, tuple) else ""

    @property
    def peer(self) -> object:
        """Return the socket address of the other side, in the form of its family."""
        return self._socket.getpeername()

    def encrypt(self, context: ssl.SSLContext, host: str, timeout_s: float) -> None:
        """Start TLS; if that fails, the socket is closed.

        Args:
            context: The TLS settings.
            host: The name that the certificate has to be for.
            timeout_s: The longest time for the handshake, in seconds.

        Raises:
            OSError, ValueError: The handshake failed.
        """
        try:
            # Raises if the connection was reset: wrap_socket() would leave a socket open then.
            self._socket.getpeername()
            self._socket.settimeout(max(timeout_s, 0.001))
            self._socket = context.wrap_socket(self._socket, server_hostname=host)
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def write(self, content: bytes, deadline: float) -> None:
        """Write all of ``content``; if that fails, ``written`` tells how much was written.

        Args:
            content: The bytes to write.
            deadline: The time by which all of them must be written.

        Raises:
            OSError: Not everything was written.
        """
        sent = self._write_now(content)
        self.written += sent
        if sent < len(content):
            self._write_rest(memoryview(content)[sent:], deadline)

    def wait_writable(self, deadline: float) -> None:
        """Wait until the socket has room for more than a few bytes.

        Args:
            deadline: The longest wait, as a time of the clock.

        Raises:
            OSError: It has no room in time, or the connection broke.
        """
        self._wanted = select.POLLOUT
        self._wait(deadline)

    def read(self, deadline: float) -> bytes:
        """Return the next bytes, at least one.

        Args:
            deadline: The longest wait, as a time of the clock.

        Raises:
            OSError: Nothing arrived in time, or the connection broke.
        """
        self._wanted = select.POLLIN
        self._wait(deadline)
        while (received := self.read_now()) is None:
            self._wait(deadline)
        return received

    def read_now(self) -> bytes | None:
        """Return the bytes that have already arrived; None if there are none.

        Raises:
            OSError: The relay closed the connection, or it broke.
        """
        try:
            received = self._socket.recv(_READ_BYTES)
        except _WOULD_BLOCK as error:
            self._wanted = _POLL_EVENTS.get(type(error), select.POLLIN)
            return None
        if not received:
            raise ConnectionResetError("the relay closed the connection")
        return received

    def shutdown(self) -> None:
        """Shut the connection down from another thread; a running read or write fails."""
        with suppress(OSError):
            # On the plain socket: the TLS one would send a closing message during a read.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _write_rest(self, rest: memoryview, deadline: float) -> None:
        while rest:
            sent = self._write_now(rest)
            if not sent:
                self._wait(deadline)
            self.written += sent
            rest = rest[sent:]

    def _write_now(self, content: bytes | memoryview) -> int:
        """Write what the socket takes without waiting; return how many bytes it took."""
        try:
            return self._socket.send(content)
        except _WOULD_BLOCK as error:
            self._wanted = _POLL_EVENTS.get(type(error), select.POLLOUT)
            return 0

    def _wait(self, deadline: float) -> None:
        while (remaining_s := deadline - self._clock()) > 0:
            if wait_ready(self._socket.fileno(), self._wanted, min(remaining_s, _MAX_WAIT_S)):
                return
        raise TimeoutError


def ssl_context_for(relay: Relay) -> ssl.SSLContext:
    """Return the TLS settings for ``relay``.

    They are cached, because loading the system's authorities takes longer than sending a hundred
    mails, and made anew when one of the relay's files changes.

    Args:
        relay: The relay, with its ``tls``, ``min_tls``, ``ca``, ``cert`` and ``key``.

    Raises:
        TLSError: A certificate, key or CA file cannot be used.
    """
    files = (relay.ca, relay.cert, relay.key)
    try:
        changed = tuple(Path(file).stat().st_mtime_ns if file else 0 for file in files)
        return _context(relay.tls, relay.min_tls, files, changed)
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(file for file in files if file)
        raise TLSError(
            f"ca=, cert= and key= of the relay {relay.name} must be readable PEM files: {error} "
            f"({names})",
            phase=Phase.STARTTLS,
        ) from error


@lru_cache(maxsize=32)
def _context(
    tls: TlsMode, min_tls: str, files: tuple[str | None, ...], changed: tuple[int, ...]
) -> ssl.SSLContext:
    del changed  # part of the cache key only
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
    """Return why a TLS handshake failed and what to do, as a text for people.

    Args:
        error: What the handshake raised.
        relay: The relay on the other side.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        problem = error.verify_message.rstrip(".")
        return (
            f"the certificate of {relay.host} cannot be verified: {problem}; if it comes from an "
            "authority of your own, give its file as ca=FILE"
        )
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return (
            f"{relay.host}:{relay.port} does not begin with TLS; use smtp:// for a port that "
            "begins without TLS (25, 587), and smtps:// for one that begins with it (465)"
        )
    reason = getattr(error, "reason", None) or error
    return f"the TLS handshake with {relay.host}:{relay.port} failed: {reason}"
