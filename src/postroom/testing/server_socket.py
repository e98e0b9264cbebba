"""The socket of one connection to a ``FaultyRelay``: lines in, answers out, and every trouble."""

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
    """The conversation has ended."""


class ServerSocket:
    """Answers are held back until the client waits for them, as pipelining wants it."""

    def __init__(
        self, connected: socket.socket, stopped: threading.Event, *, delay_s: float, drip_s: float
    ) -> None:
        self._socket = connected
        self._stopped = stopped
        self._delay_s = delay_s
        self._drip_s = drip_s
        self._heard = bytearray()
        self._unsaid: list[bytes] = []

    @property
    def is_encrypted(self) -> bool:
        """Return whether TLS is spoken."""
        return isinstance(self._socket, ssl.SSLSocket)

    def line(self) -> str:
        """Return the next line that the client says; say first what it may wait for."""
        while (end := self._heard.find(b"\n")) < 0:
            self._hear()
        line = self._heard[:end].decode("utf-8", "replace").rstrip("\r")
        del self._heard[: end + 1]
        return line

    def begin_content(self) -> None:
        """Wait for the first bytes of a body."""
        while not self._heard:
            self._hear()

    def content(self) -> bytes:
        """Return a body up to its final dot, without dot-stuffing."""
        searched = 0
        while not self._heard.startswith(b".\r\n"):
            end = self._heard.find(b"\r\n.\r\n", searched)
            if end >= 0:
                content = bytes(self._heard[: end + 2])
                del self._heard[: end + 5]
                return content[content.startswith(b"..") :].replace(b"\r\n..", b"\r\n.")
            searched = max(len(self._heard) - 4, 0)
            self._hear()
        del self._heard[:3]
        return b""

    def drop_lines(self) -> int:
        """Forget what the client has said and nobody has read; return how many lines it was."""
        count = self._heard.count(b"\n")
        self._heard.clear()
        return count

    def say(self, answer: str) -> None:
        """Answer with ``answer``: a code and its text, of several lines where it has line ends."""
        code, first, *rest = answer[:3], *answer[4:].split("\n")
        lines = [first, *rest]
        for line in lines[:-1]:
            self._unsaid.append(f"{code}-{line}\r\n".encode())
        self._unsaid.append(f"{code} {lines[-1]}\r\n".encode())

    def flush(self) -> None:
        """Say now what was held back."""
        if self._unsaid:
            if self._delay_s:
                self._stopped.wait(self._delay_s)
            self._socket.sendall(b"".join(self._unsaid))
            self._unsaid.clear()

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Speak TLS from here on; what came before it is dropped."""
        self.flush()
        self._heard.clear()
        self._socket = context.wrap_socket(self._socket, server_side=True)

    def misbehave(self, trouble: Misbehavior) -> None:
        """Fail in the way of ``trouble``; return only where one can go on after it.

        Raises:
            Over: one cannot.
        """
        if trouble is Misbehavior.REFUSE:
            self.say("554 5.3.2 no service here")
        self.flush()
        match trouble:
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
        """End the conversation from another thread."""
        with contextlib.suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _hear(self) -> None:
        self.flush()
        received = self._socket.recv(_READ_BYTES)
        if not received:
            raise SessionEnded
        self._heard += received

    def _drip(self) -> None:
        while not self._stopped.is_set():
            for byte in _DRIP:
                self._socket.sendall(bytes([byte]))
                if self._stopped.wait(self._drip_s):
                    return
