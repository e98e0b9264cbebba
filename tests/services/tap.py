"""A line between a client and its relay that listens to every write, as it came."""

from __future__ import annotations

import contextlib
import re
import socket
import threading

from tests.services.waiting import free_port

_READ_BYTES = 65_536
_LAST_LINE = re.compile(rb"\d{3}(?: |\r?$)")


class _Ear:
    """What one conversation has said so far: which commands are unanswered, and where a body is."""

    def __init__(self, replies_to_dot: bool) -> None:
        self.lock = threading.Lock()
        #: Commands that no reply has come to yet; the greeting is the first reply.
        self.unanswered: list[bytes] = [b"(greeting)"]
        self.is_in_content = False
        self._said = b""
        self._heard = b""
        self._is_lmtp = replies_to_dot
        self._accepted = 0

    def client_said(self, chunk: bytes) -> bytes:
        """Take in a write; return what of it was written too early, if anything."""
        self._said += chunk
        early = b""
        while (line := self._next_line()) is not None:
            if self.unanswered:
                early += line
            self.unanswered.extend([line] * self._answers_to(line))
        return early

    def relay_said(self, chunk: bytes) -> None:
        """Take in replies."""
        self._heard += chunk
        while (end := self._heard.find(b"\n")) >= 0:
            line, self._heard = self._heard[:end], self._heard[end + 1 :]
            if _LAST_LINE.match(line):
                command = self.unanswered.pop(0).upper()
                self.is_in_content = command.startswith(b"DATA") and line.startswith(b"354")
                self._accepted += command.startswith(b"RCPT") and line.startswith(b"2")
                if command.startswith((b"MAIL", b"RSET")):
                    self._accepted = 0

    def _next_line(self) -> bytes | None:
        """Return the next command; of a body only the dot that ends it."""
        if self.is_in_content:
            end = 0 if self._said.startswith(b".\r\n") else self._said.find(b"\r\n.\r\n") + 2
            if end == 1:
                return None
            self._said = self._said[end + 3 :]
            self.is_in_content = False
            return b".\r\n"
        line, newline, rest = self._said.partition(b"\n")
        if not newline:
            return None
        self._said = rest
        return line + newline

    def _answers_to(self, line: bytes) -> int:
        return self._accepted if self._is_lmtp and line == b".\r\n" else 1


class Tap:
    """Passes everything on to the relay at ``port``; `early` holds what did not wait its turn.

    A command is early where the one before it has not been answered yet.
    """

    def __init__(self, port: int, *, is_lmtp: bool = False) -> None:
        self.port = free_port()
        #: Every write of the client's, as it arrived.
        self.writes: list[bytes] = []
        self.early: list[bytes] = []
        self._relay = port
        self._is_lmtp = is_lmtp
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, name="tap", daemon=True).start()

    def close(self) -> None:
        """Cut everything."""
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                relay = socket.create_connection(("127.0.0.1", self._relay))
            except OSError:
                return
            self._sockets += [client, relay]
            for one in (client, relay):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ear = _Ear(self._is_lmtp)
            for pass_on in (self._from_client, self._from_relay):
                threading.Thread(
                    target=pass_on, args=(client, relay, ear), name="tap", daemon=True
                ).start()

    def _from_client(self, client: socket.socket, relay: socket.socket, ear: _Ear) -> None:
        with contextlib.suppress(OSError):
            while chunk := client.recv(_READ_BYTES):
                with ear.lock:
                    self.writes.append(chunk)
                    if early := ear.client_said(chunk):
                        self.early.append(early)
                relay.sendall(chunk)
        _end(relay)

    def _from_relay(self, client: socket.socket, relay: socket.socket, ear: _Ear) -> None:
        with contextlib.suppress(OSError):
            while chunk := relay.recv(_READ_BYTES):
                with ear.lock:
                    ear.relay_said(chunk)
                client.sendall(chunk)
        _end(client)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_WR)
