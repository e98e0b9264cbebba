"""One connection of a `FaultyRelay`: reads lines, sends replies, and misbehaves on request."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading

from postroom.testing.script import Misbehavior

_READ_BYTES = 262_144
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_DRIP = b"250-one byte after the other, and no end to it\r\n"
_GARBAGE = b"\x16\x03\x01\x00 this is not SMTP\r\n"
_ENDLESS = b"250-and another line\r\n" * 1000


class SessionEnded(Exception):
    """The session has ended."""


class ServerSocket:
    """Reads and writes SMTP lines.

    Replies are held back until the client waits for them, as pipelining requires.

    Args:
        connection: The accepted socket.
        stopped: Set when the relay stops.
        delay_s: Seconds before each write.
        drip_s: Seconds between two bytes of `Misbehavior.DRIP`.
    """

    def __init__(
        self, connection: socket.socket, stopped: threading.Event, *, delay_s: float, drip_s: float
    ) -> None:
        self._socket = connection
        self._stopped = stopped
        self._delay_s = delay_s
        self._drip_s = drip_s
        self._received = bytearray()
        self._pending: list[bytes] = []

    @property
    def is_encrypted(self) -> bool:
        """Whether TLS is used."""
        return isinstance(self._socket, ssl.SSLSocket)

    def read_line(self) -> str:
        """Return the client's next line; first send what it may be waiting for."""
        while (end := self._received.find(b"\n")) < 0:
            self._receive()
        line = self._received[:end].decode("utf-8", "replace").rstrip("\r")
        del self._received[: end + 1]
        return line

    def wait_for_content(self) -> None:
        """Wait for the first bytes of a body."""
        while not self._received:
            self._receive()

    def read_content(self) -> bytes:
        """Return a body up to its final dot, without dot-stuffing."""
        searched = 0
        while not self._received.startswith(b".\r\n"):
            end = self._received.find(b"\r\n.\r\n", searched)
            if end >= 0:
                content = bytes(self._received[: end + 2])
                del self._received[: end + 5]
                return content[content.startswith(b"..") :].replace(b"\r\n..", b"\r\n.")
            searched = max(len(self._received) - 4, 0)
            self._receive()
        del self._received[:3]
        return b""

    def drop_lines(self) -> int:
        """Discard what has arrived and was not read; return how many lines it was."""
        count = self._received.count(b"\n")
        self._received.clear()
        return count

    def reply(self, answer: str) -> None:
        """Answer with a code and text; a text with line ends becomes a multi-line reply."""
        code, first, *rest = answer[:3], *answer[4:].split("\n")
        lines = [first, *rest]
        for line in lines[:-1]:
            self._pending.append(f"{code}-{line}\r\n".encode())
        self._pending.append(f"{code} {lines[-1]}\r\n".encode())

    def flush(self) -> None:
        """Send the replies that were held back."""
        if self._pending:
            if self._delay_s:
                self._stopped.wait(self._delay_s)
            self._socket.sendall(b"".join(self._pending))
            self._pending.clear()

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Use TLS from now on; what arrived before is dropped."""
        self.flush()
        self._received.clear()
        self._socket = context.wrap_socket(self._socket, server_side=True)

    def misbehave(self, misbehavior: Misbehavior) -> None:
        """Fail in the given way; return only if the session can continue.

        Raises:
            SessionEnded: it cannot.
        """
        if misbehavior is Misbehavior.REFUSE:
            self.reply("554 5.3.2 no service here")
        self.flush()
        match misbehavior:
            case Misbehavior.RESET:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            case Misbehavior.CLOSE | Misbehavior.REFUSE:
                self._socket.shutdown(socket.SHUT_WR)
            case Misbehavior.STALL:
                self._stopped.wait()
            case Misbehavior.DRIP:
                self._drip()
            case Misbehavior.ENDLESS:
                while not self._stopped.is_set():
                    self._socket.sendall(_ENDLESS)
            case Misbehavior.GARBAGE:
                self._socket.sendall(_GARBAGE)
                return
        raise SessionEnded

    def abort(self) -> None:
        """End the session, from another thread."""
        with contextlib.suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _receive(self) -> None:
        self.flush()
        received = self._socket.recv(_READ_BYTES)
        if not received:
            raise SessionEnded
        self._received += received

    def _drip(self) -> None:
        while not self._stopped.is_set():
            for byte in _DRIP:
                self._socket.sendall(bytes([byte]))
                if self._stopped.wait(self._drip_s):
                    return
