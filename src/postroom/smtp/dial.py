"""From a relay's name to a connected socket, within a deadline."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from postroom.errors import ConnectError, RelayError, RelayTimeout, named
from postroom.relays.relay import Relay
from postroom.states import Phase

#: Family and socket address, as ``getaddrinfo`` gives them.
Address = tuple[socket.AddressFamily, Any]


def dial(relay: Relay, *, clock: Callable[[], float], deadline: float) -> socket.socket:
    """Return a socket connected to ``relay``; its addresses are tried in the system's order.

    Raises:
        ConnectError: the name does not resolve, or no address answers.
        RelayTimeout: the deadline has passed.
    """
    addresses = resolve(relay, timeout_s=deadline - clock())
    failure: OSError | None = None
    for position, address in enumerate(addresses):
        # A silent first address must leave time for the next one.
        share_s = (deadline - clock()) / (len(addresses) - position)
        try:
            return _connected(address, relay.source_address, max(share_s, 0.001))
        except OSError as error:
            failure = error
    raise _unreachable(relay, failure)


def resolve(relay: Relay, *, timeout_s: float) -> list[Address]:
    """Return the addresses of ``relay``, those of the family we have to connect from.

    Raises:
        ConnectError: it has none, or is no host name.
        RelayTimeout: the resolver did not answer in time.
    """
    if relay.path:
        return [(socket.AF_UNIX, relay.path)]
    try:
        found = _numeric(relay.host, relay.port) or _looked_up(relay, timeout_s)
    except UnicodeError as error:
        # A label that is empty or too long to be encoded for DNS (RFC 1035 section 2.3.4).
        raise ConnectError(
            f"{relay.host} is not a host name that can be looked up: {named(error)}; "
            "correct the relay's URL",
            phase=Phase.CONNECT,
        ) from error
    if relay.source_address is not None:
        family = socket.AF_INET6 if ":" in relay.source_address else socket.AF_INET
        found = [address for address in found if address[0] is family]
    if not found:
        raise ConnectError(
            f"expected {relay.host} to have an address of the family of source="
            f"{relay.source_address}, got: none",
            phase=Phase.CONNECT,
        )
    return found


def _numeric(host: str, port: int) -> list[Address]:
    try:
        return _addresses(host, port, socket.AI_NUMERICHOST)
    except OSError:
        return []


def _looked_up(relay: Relay, timeout_s: float) -> list[Address]:
    """Ask the resolver on a thread of its own: it knows no deadline and may take a minute."""
    answer: SimpleQueue[list[Address] | Exception] = SimpleQueue()

    def look_up() -> None:
        try:
            answer.put(_addresses(relay.host, relay.port, 0))
        except Exception as error:
            answer.put(error)

    threading.Thread(target=look_up, name=f"postroom-resolve-{relay.host}", daemon=True).start()
    try:
        found = answer.get(timeout=max(timeout_s, 0))
    except Empty:
        raise RelayTimeout(
            f"expected {relay.host} to resolve in time, got: no answer from the resolver; "
            "is DNS reachable from here?",
            phase=Phase.CONNECT,
        ) from None
    if isinstance(found, OSError):
        raise ConnectError(
            f"expected {relay.host} to resolve, got: {found.strerror or found}; "
            "is the relay's host name right?",
            phase=Phase.CONNECT,
        ) from found
    if isinstance(found, Exception):
        raise found
    return found


def _addresses(host: str, port: int, flags: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]


def _connected(address: Address, source: str | None, timeout_s: float) -> socket.socket:
    family, where = address
    connected = socket.socket(family, socket.SOCK_STREAM)
    try:
        connected.settimeout(timeout_s)
        if source is not None:
            connected.bind((source, 0))
        connected.connect(where)
        if family != socket.AF_UNIX:
            # Each write is a whole step of the conversation; none may wait for another's ACK.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connected.close()
        raise
    return connected


def _unreachable(relay: Relay, failure: OSError | None) -> RelayError:
    where = relay.path or f"{relay.host}:{relay.port}"
    if failure is None or isinstance(failure, TimeoutError):
        return RelayTimeout(
            f"expected {where} to answer in time, got: silence; is the port right, and does a "
            "firewall let it through?",
            phase=Phase.CONNECT,
        )
    return ConnectError(
        f"expected {where} to accept a connection, got: {failure.strerror or failure}; "
        "is the relay running, and the port right?",
        phase=Phase.CONNECT,
    )
