"""A scripted SMTP server for tests: it behaves correctly unless the script says otherwise.

Example::

    with FaultyRelay() as relay:
        relay.on(Phase.RCPT, "550 5.1.1 no such user", address="nobody@example.com")
        relay.on(Phase.DOT, Misbehavior.RESET, times=1)
        ...  # send mail to relay.url
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
    """A relay on a free loopback port, or on a Unix socket.

    It listens from the start; `stop` or the end of a ``with`` block ends it.

    Args:
        options: What the relay supports, and how fast it is.
        journal: A file that each accepted mail is appended to before it is answered; see
            `read_journal`.
        syncs: Sync that file to disk after each mail. Default: True.
        path: A Unix socket to listen on, for LMTP. Default: a free port of 127.0.0.1.

    Attributes:
        options: Those options; new connections use what is set here.
        connections: Number of connections accepted so far.
    """

    def __init__(
        self,
        options: ServerOptions | None = None,
        *,
        journal: Path | None = None,
        syncs: bool = True,
        path: Path | None = None,
    ) -> None:
        self.options = options or ServerOptions()
        self.connections = 0
        self._path = path
        self._script = Script()
        self._log = AcceptedLog(journal, syncs=syncs)
        self._stopped = threading.Event()
        #: Running threads and their sessions; None for the thread that accepts connections.
        self._threads: dict[threading.Thread, ServerSession | None] = {}
        self._listener: socket.socket | None = None
        self._port = 0
        self.serve()

    @property
    def url(self) -> str:
        """The relay URL of this server.

        If it supports TLS, add ``?ca=FILE``. If it has credentials, the first are in the URL.
        """
        options = self.options
        login = "".join(f"{quote(user)}:{quote(secret)}@" for user, secret in self._login())
        if self._path is not None:
            return f"lmtp://{login}{self._path}"
        scheme = "lmtp" if options.is_lmtp else "smtp"
        if options.tls is not None:
            scheme += "s" if options.is_tls_from_start else ""
            return f"{scheme}://{login}127.0.0.1:{self._port}"
        query = "tls=off&auth_over_clear=yes" if login else "tls=off"
        return f"{scheme}://{login}127.0.0.1:{self._port}?{query}"

    @property
    def port(self) -> int:
        """The port; 0 for a Unix socket."""
        return self._port

    @property
    def accepted(self) -> list[Accepted]:
        """What it has accepted so far, in order."""
        return self._log.accepted

    def wait_for(self, count: int, timeout_s: float = 10.0) -> list[Accepted]:
        """Wait until the relay has accepted ``count`` mails; return all it has accepted.

        Args:
            count: How many.
            timeout_s: Seconds to wait. Default: 10.

        Raises:
            TimeoutError: it did not accept that many in time.
        """
        return self._log.wait_for(count, timeout_s)

    def on(
        self,
        phase: Phase,
        action: str | Misbehavior,
        *,
        address: str | None = None,
        times: int | None = None,
        after_accepting: bool = False,
    ) -> None:
        """Add an entry to the script. The first entry that matches is used.

        In ``Phase.BODY`` the entry applies in the middle of the body; after an answer there, the
        relay closes the connection.

        Args:
            phase: The phase in which it applies.
            action: A reply such as ``"451 4.7.1 later"``, or a misbehavior.
            address: Only for this sender (in MAIL) or recipient. Default: for all.
            times: How many times it applies. Default: always.
            after_accepting: In ``Phase.DOT``, misbehave after the mail was accepted and not before.
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
        """Clear the script: behave correctly from now on."""
        self._script.clear()

    def refuse(self) -> None:
        """Stop listening: new connections are refused until `serve`. Open connections continue."""
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
            self._listener = self._open_listener()
            self._start(threading.Thread(target=self._accept, args=(self._listener,)), None)

    def hang_up(self) -> None:
        """Close every open connection."""
        for session in list(self._threads.values()):
            if session is not None:
                session.abort()

    def stop(self) -> None:
        """Stop listening, close every connection, and wait for the threads to end."""
        self._stopped.set()
        self.refuse()
        self.hang_up()
        for thread in list(self._threads):
            thread.join(_JOIN_S)
        self._log.close()

    def __enter__(self) -> FaultyRelay:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _login(self) -> list[tuple[str, str]]:
        return list(self.options.credentials.items())[:1]

    def _open_listener(self) -> socket.socket:
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
                accepted_socket, _ = listener.accept()
            except OSError:
                return  # refuse() closed the listener
            self._serve_connection(accepted_socket)

    def _serve_connection(self, accepted_socket: socket.socket) -> None:
        if accepted_socket.family != socket.AF_UNIX:
            accepted_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        options = self.options
        connection = ServerSocket(
            accepted_socket, self._stopped, delay_s=options.delay_s, drip_s=options.drip_s
        )
        session = ServerSession(connection, options, self._script, self._log, self.connections)
        self._start(threading.Thread(target=session.run), session)

    def _start(self, thread: threading.Thread, session: ServerSession | None) -> None:
        thread.name = f"faulty-relay-{self._port}"
        thread.daemon = True
        for known in list(self._threads):
            if known.ident is not None and not known.is_alive():
                self._threads.pop(known, None)
        # Before it starts: once it has greeted a client, `hang_up` must find it.
        self._threads[thread] = session
        thread.start()
