"""The handshake: greeting, EHLO, STARTTLS and AUTH, until the connection is ready for mail.

It does not use ``smtplib``, whose deadlines a slow server can extend, which keeps bytes that were
injected before TLS, and which does not limit the lines of a reply.
"""

from __future__ import annotations

import socket

from postroom.errors import ConnectError, TLSError
from postroom.relays.options import TlsMode
from postroom.smtp.auth import authenticate
from postroom.smtp.capabilities import Capabilities
from postroom.smtp.connection import Connection
from postroom.smtp.reply import SERVICE_CLOSING, SERVICE_READY, Reply
from postroom.states import Phase


def handshake(connection: Connection) -> Capabilities:
    """Do everything that comes before the first mail; return what the relay announced.

    Args:
        connection: A connection on which nothing has been said yet.

    Raises:
        ConnectError, TLSError, AuthError: The relay refused, or lacks what its URL requires.
        RelayError: The connection broke.
    """
    read_greeting(connection)
    capabilities = say_ehlo(connection)
    if start_tls(connection, capabilities):
        # Without TLS the announcement may have been changed on the way (RFC 3207 section 4.2).
        capabilities = say_ehlo(connection)
    if connection.relay.has_login:
        authenticate(connection, capabilities)
    connection.transcript.end_handshake()
    return capabilities


def read_greeting(connection: Connection) -> Reply:
    """Return the greeting of the relay (RFC 5321 section 4.3.1).

    Args:
        connection: A connection on which nothing has been said yet.

    Raises:
        ConnectError: The relay refuses to serve us.
        RelayError: The connection broke.
    """
    timeout_s = connection.relay.timeouts.command_s
    reply = connection.read_reply(timeout_s, Phase.GREETING)
    if reply.code != SERVICE_READY:
        raise _refused(connection, reply, Phase.GREETING)
    return reply


def say_ehlo(connection: Connection) -> Capabilities:
    """Send EHLO and return what the relay announces (RFC 5321 section 3.2).

    LMTP servers get LHLO (RFC 2033 section 4.1). A relay that does not know EHLO gets HELO.

    Args:
        connection: A connection whose greeting has been read.

    Raises:
        ConnectError: The relay refuses them.
        RelayError: The connection broke.
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
    """Start TLS if ``Relay.tls`` asks for it; return whether it was started now (RFC 3207).

    Args:
        connection: A connection after EHLO.
        capabilities: What the relay announced.

    Raises:
        TLSError: TLS is required and not available. Somebody on the way may have removed it.
        RelayError: The connection broke.
    """
    relay = connection.relay
    if connection.tls is not None or relay.tls is TlsMode.OFF:
        return False
    if not capabilities.has_starttls:
        if relay.tls is TlsMode.REQUIRED:
            raise TLSError(
                f"the relay {relay.name} does not announce STARTTLS; tls=opportunistic or tls=off "
                "allow mail without TLS",
                phase=Phase.STARTTLS,
            )
        return False
    reply = connection.command("STARTTLS", Phase.STARTTLS)
    if reply.code == SERVICE_READY:
        connection.encrypt(relay.timeouts.connect_s, phase=Phase.STARTTLS)
        return True
    if relay.tls is TlsMode.REQUIRED or reply.code == SERVICE_CLOSING:
        raise TLSError(
            f"the relay {relay.name} refused STARTTLS: {reply}",
            phase=Phase.STARTTLS,
            reply=reply,
        )
    return False


def _own_name(connection: Connection) -> str:
    """Return this machine's name, or its address if the name has no domain.

    RFC 5321 section 4.1.4. Not ``getfqdn``, which asks DNS without a deadline.
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
        f"the relay {connection.relay.name} refused to serve us: {reply}",
        phase=phase,
        reply=reply if reply.code >= 400 else None,
    )
