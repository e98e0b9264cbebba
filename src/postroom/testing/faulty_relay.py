"""A scripted SMTP server for tests: it does the right thing until told otherwise.

with FaultyRelay() as relay:
relay.on(Phase.RCPT, "550 5.1.1 no such user", address="nobody@example.com")
relay.on(Phase.DOT, Trouble.RESET, times=1)
…  # send mail to relay.url
assert [mail.recipients for mail in relay.accepted] == [("somebody@example.com",)]
"""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from postroom.states import Phase
from postroom.testing.accepted_log import Accepted, AcceptedLog, read_journal
from postroom.testing.script import Misbehavior, Script, ScriptEntry
from postroom.testing.server_session import ServerOptions, ServerSession
from postroom.testing.server_socket import ServerSocket

__all__ = ["Accepted", "FaultyRelay", "Misbehavior", "ServerOptions", "read_journal"]

_BACKLOG = 128
_JOIN_S = 5.0


class FaultyRelay:
    """A relay on a free loopback port, or on the Unix socket ``path``.

    ``journal`` names a file that everything accepted is appended to before it is answered, and
    synced to disk unless ``syncs`` is false; ``read_journal`` reads it back.
    """

    def __init__(
        self,
        abilities: ServerOptions | None = None,
        *,
        journal: Path | None = None,
        syncs: bool = True,
        path: Path | None = None,
    ) -> None:
        self.abilities = abilities or ServerOptions()
        #: Connections accepted so far.
        self.connections = 0
        self._path = path
        self._script = Script()
        self._journal = AcceptedLog(journal, syncs=syncs)
        self._stopped = threading.Event()
        #: Threads that live, each with the conversation it leads; None: it accepts connections.
        self._threads: dict[threading.Thread, ServerSession | None] = {}
        self._listener: socket.socket | None = None
        self._port = 0
        self.serve()

    @property
    def url(self) -> str:
        """Return the relay URL to reach it by.

        Where it speaks TLS add ``?ca=FILE``; where it has credentials the first are in it.
        """
        abilities = self.abilities
        login = "".join(f"{quote(user)}:{quote(secret)}@" for user, secret in self._login())
        if self._path is not None:
            return f"lmtp://{login}{self._path}"
        scheme = "lmtp" if abilities.is_lmtp else "smtp"
        if abilities.tls is not None:
            scheme += "s" if abilities.is_tls_from_start else ""
            return f"{scheme}://{login}127.0.0.1:{self._port}"
        options = "tls=off&auth_over_clear=yes" if login else "tls=off"
        return f"{scheme}://{login}127.0.0.1:{self._port}?{options}"

    @property
    def port(self) -> int:
        """Return the port it listens on; 0 for a Unix socket."""
        return self._port

    @property
    def accepted(self) -> list[Accepted]:
        """Return what it has accepted so far, in order."""
        return self._journal.accepted

    def wait_for(self, count: int, timeout_s: float = 10.0) -> list[Accepted]:
        """Wait until it has accepted ``count`` mails; return them.

        Raises:
            TimeoutError: it has not, in time.
        """
        return self._journal.wait_for(count, timeout_s)

    def on(
        self,
        phase: Phase,
        action: str | Misbehavior,
        *,
        address: str | None = None,
        times: int | None = None,
        after_accepting: bool = False,
    ) -> None:
        """Script what happens in ``phase``: an answer such as ``"451 4.7.1 later"``, or a trouble.

        The first entry that fits is played; without any the right thing is done. ``address``
        limits it to a sender (MAIL) or recipient, ``times`` to so many times. In ``Phase.DOT``
        a trouble comes before the mail is accepted, or after it with ``after_accepting``. In
        ``Phase.BODY`` it comes in the middle of the body, and an answer hangs up after it.
        """
        self._script.add(
            ScriptEntry(
                phase=phase,
                action=action,
                address=address,
                after_accepting=after_accepting,
                times=times,
            )
        )

    def behave(self) -> None:
        """Forget the script: from here on do the right thing."""
        self._script.clear()

    def refuse(self) -> None:
        """Stop listening: connections are refused until ``serve``. Those that stand go on."""
        if self._listener is not None:
            # Closing alone would not wake the thread that accepts.
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
            if self._path is not None:
                self._path.unlink()

    def serve(self) -> None:
        """Listen again, on the same port."""
        if self._listener is None:
            self._listener = self._listening()
            self._start(threading.Thread(target=self._accept, args=(self._listener,)), None)

    def hang_up(self) -> None:
        """Cut every connection that stands."""
        for conversation in list(self._threads.values()):
            if conversation is not None:
                conversation.abort()

    def stop(self) -> None:
        """Stop listening, cut every connection, wait for the threads to end."""
        self._stopped.set()
        self.refuse()
        self.hang_up()
        for thread in list(self._threads):
            thread.join(_JOIN_S)
        self._journal.close()

    def __enter__(self) -> FaultyRelay:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _login(self) -> list[tuple[str, str]]:
        return list(self.abilities.credentials.items())[:1]

    def _listening(self) -> socket.socket:
        if self._path is not None:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(os.fspath(self._path))
        else:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._port))
            self._port = listener.getsockname()[1]
        listener.listen(_BACKLOG)
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connected, _ = listener.accept()
            except OSError:
                return  # refuse() closed the listener
            self._converse(connected)

    def _converse(self, connected: socket.socket) -> None:
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        abilities = self.abilities
        wire = ServerSocket(
            connected, self._stopped, delay_s=abilities.delay_s, drip_s=abilities.drip_s
        )
        conversation = ServerSession(wire, abilities, self._script, self._journal, self.connections)
        self._start(threading.Thread(target=conversation.run), conversation)

    def _start(self, thread: threading.Thread, conversation: ServerSession | None) -> None:
        thread.name = f"faulty-relay-{self._port}"
        thread.daemon = True
        for known in list(self._threads):
            if not known.is_alive():
                self._threads.pop(known, None)
        thread.start()
        self._threads[thread] = conversation
