"""Logins for a Postfix of our own: the server's side of Dovecot's auth protocol, in a thread.

https://doc.dovecot.org/latest/developers/design/auth_protocol.html
"""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Mapping

from postroom.testing import server_session

_GREETING = (
    "VERSION\t1\t2\nCUID\t1\nCOOKIE\t0123456789abcdef0123456789abcdef\n"
    + "".join(f"MECH\t{mechanism}\tplaintext\n" for mechanism in server_session.MECHANISMS.split())
    + "DONE\n"
)


class SaslServer:
    """Knows ``credentials`` (user name: password or token); Postfix finds it at ``place``."""

    def __init__(self, credentials: Mapping[str, str]) -> None:
        self._credentials = credentials
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place = f"inet:127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True, name="sasl").start()

    def remove(self) -> None:
        """Stop listening."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rw", encoding="ascii", newline="\n") as stream:
            stream.write(_GREETING)
            stream.flush()
            for line in stream:
                command, *fields = line.rstrip("\n").split("\t")
                if command != "AUTH":
                    continue
                number, mechanism, *parameters = fields
                # The initial response comes last, and may itself hold "=".
                initial = next((p[5:] for p in parameters if p.startswith("resp=")), "")

                def ask(challenge: bytes, number: str = number) -> bytes:
                    encoded = base64.b64encode(challenge).decode("ascii")
                    stream.write(f"CONT\t{number}\t{encoded}\n")
                    stream.flush()
                    return server_session.decode_base64(
                        stream.readline().rstrip("\n").split("\t")[2]
                    )

                known = server_session.check_credentials(
                    f"{mechanism} {initial}", self._credentials, ask
                )
                verdict = f"OK\t{number}\tuser=user" if known else f"FAIL\t{number}\tuser=user"
                stream.write(verdict + "\n")
                stream.flush()
