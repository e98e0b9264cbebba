"""From a fresh connection to one that takes mail: greeting, EHLO, STARTTLS, AUTH.

Written on our own reply parser and not on ``smtplib``: that one has no deadline a drip cannot
get around, buffers what was injected before TLS, and knows no bound on a reply's lines.
"""

from __future__ import annotations

import socket

from postroom.errors import ConnectError, TLSError
from postroom.relays.options import TlsMode
from postroom.smtp.auth import authenticate
from postroom.smtp.capabilities import Capabilities
from postroom.smtp.connection import Connection
from postroom.smtp.reply import Reply
from postroom.states import Phase

_READY = 220
_CLOSING = 421


def handshake(connection: Connection) -> Capabilities:
    """Do all that comes before mail; return what the relay can do.

    Raises:
        ConnectError, TLSError, AuthError: the relay refused, or lacks what we require.
        RelayError: the conversation broke.
    """
    read_greeting(connection)
    capabilities = say_ehlo(connection)
    if start_tls(connection, capabilities):
        # What was announced in the clear may be somebody else's (RFC 3207 section 4.2).
        capabilities = say_ehlo(connection)
    if connection.relay.has_login:
        authenticate(connection, capabilities)
    connection.transcript.end_handshake()
    return capabilities


def read_greeting(connection: Connection) -> Reply:
    """Wait for the relay's greeting and return it.

    Raises:
        ConnectError: it refuses to serve us.
    """
    timeout_s = connection.relay.timeouts.command_s
    reply = connection.read_reply(timeout_s, Phase.GREETING)
    if reply.code != _READY:
        raise _refused(connection, reply, Phase.GREETING)
    return reply


def say_ehlo(connection: Connection) -> Capabilities:
    """Say EHLO (LHLO to LMTP; HELO where EHLO is not known) and return what is announced.

    Raises:
        ConnectError: the relay wants none of them.
    """
    relay = connection.relay
    name = relay.ehlo_name or _own_name(connection)
    reply = connection.command(f"{'LHLO' if relay.is_lmtp else 'EHLO'} {name}", Phase.EHLO)
    if reply.is_positive:
        return Capabilities.parse(reply)
    if reply.code >= 500 and not relay.is_lmtp:
        reply = connection.command(f"HELO {name}", Phase.EHLO)
        if reply.is_positive:
            return Capabilities()
    raise _refused(connection, reply, Phase.EHLO)


def start_tls(connection: Connection, capabilities: Capabilities) -> bool:
    """Begin TLS where it is wanted and has not begun; return whether it was begun now.

    Raises:
        TLSError: it is required and not to be had. Somebody in between may have removed it.
    """
    relay = connection.relay
    if connection.tls is not None or relay.tls is TlsMode.OFF:
        return False
    if not capabilities.has_starttls:
        if relay.tls is TlsMode.REQUIRED:
            raise TLSError(
                f"expected the relay {relay.name} to announce STARTTLS, got: none; "
                "tls=opportunistic or tls=off would do without",
                phase=Phase.STARTTLS,
            )
        return False
    reply = connection.command("STARTTLS", Phase.STARTTLS)
    if reply.code == _READY:
        connection.encrypt(relay.timeouts.connect_s, phase=Phase.STARTTLS)
        return True
    if relay.tls is TlsMode.REQUIRED or reply.code == _CLOSING:
        raise TLSError(
            f"expected the relay {relay.name} to begin TLS, got: {reply}",
            phase=Phase.STARTTLS,
            reply=reply,
        )
    return False


def _own_name(connection: Connection) -> str:
    """Return this machine's name, or its address where the name has no domain.

    RFC 5321 section 4.1.4; not ``getfqdn``, which asks DNS without a deadline.
    """
    name = socket.gethostname()
    if "." in name and name.isascii() and name.replace(".", "").replace("-", "").isalnum():
        return name
    address = connection.local_address.partition("%")[0]
    if not address:
        return "localhost"
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _refused(connection: Connection, reply: Reply, phase: Phase) -> ConnectError:
    return ConnectError(
        f"expected the relay {connection.relay.name} to serve us, got: {reply}",
        phase=phase,
        reply=reply if reply.code >= 400 else None,
    )
