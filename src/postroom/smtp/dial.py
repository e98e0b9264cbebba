"""Connects a socket to a relay, from name resolution on.

One deadline covers all of it, however many addresses the relay has and however slow DNS is.
"""

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
    """Return a socket that is connected to ``relay``.

    The addresses are tried in the order of the system's resolver. Each gets an equal share of the
    remaining time.

    Args:
        relay: The relay, with its ``host`` and ``port`` or ``path``, and ``source_address``.
        clock: A monotonic clock, in seconds.
        deadline: The time of ``clock`` by which the connection must exist.

    Raises:
        ConnectError: The name does not resolve, or no address accepts a connection.
        RelayTimeout: The deadline has passed.
    """
    addresses = resolve(relay, timeout_s=deadline - clock())
    failure: OSError | None = None
    for position, address in enumerate(addresses):
        # A silent first address must leave time for the next one.
        share_s = (deadline - clock()) / (len(addresses) - position)
        try:
            return _connect(address, relay.source_address, max(share_s, 0.001))
        except OSError as error:
            failure = error
    raise _unreachable(relay, failure)


def resolve(relay: Relay, *, timeout_s: float) -> list[Address]:
    """Return the addresses of ``relay``; with ``source_address`` only those of its family.

    Args:
        relay: The relay to look up.
        timeout_s: How long to wait for the resolver, in seconds.

    Raises:
        ConnectError: It has no address, or its name is not a host name.
        RelayTimeout: The resolver did not answer in time.
    """
    if relay.path:
        return [(socket.AF_UNIX, relay.path)]
    try:
        found = _numeric_addresses(relay.host, relay.port) or _look_up(relay, timeout_s)
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
            f"{relay.host} has no address of the same family as source={relay.source_address}",
            phase=Phase.CONNECT,
        )
    return found


def _numeric_addresses(host: str, port: int) -> list[Address]:
    try:
        return _addresses(host, port, socket.AI_NUMERICHOST)
    except OSError:
        return []


def _look_up(relay: Relay, timeout_s: float) -> list[Address]:
    """Ask the resolver in a thread of its own: it has no deadline and may take a minute."""
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
            f"the resolver did not answer in time for {relay.host}; can this machine reach DNS?",
            phase=Phase.CONNECT,
        ) from None
    if isinstance(found, OSError):
        raise ConnectError(
            f"{relay.host} could not be resolved: {found.strerror or found}; check the relay's "
            "host name",
            phase=Phase.CONNECT,
        ) from found
    if isinstance(found, Exception):
        raise found
    return found


def _addresses(host: str, port: int, flags: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, address) for family, _, _, _, address in found]


def _connect(address: Address, source: str | None, timeout_s: float) -> socket.socket:
    family, socket_address = address
    connected = socket.socket(family, socket.SOCK_STREAM)
    try:
        connected.settimeout(timeout_s)
        if source is not None:
            connected.bind((source, 0))
        connected.connect(socket_address)
        if family != socket.AF_UNIX:
            # Each write is a whole step; Nagle's algorithm would hold it until the last ACK.
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        connected.close()
        raise
    return connected


def _unreachable(relay: Relay, failure: OSError | None) -> RelayError:
    where = relay.path or f"{relay.host}:{relay.port}"
    if failure is None or isinstance(failure, TimeoutError):
        return RelayTimeout(
            f"{where} did not answer in time; check the port, and whether a firewall blocks it",
            phase=Phase.CONNECT,
        )
    return ConnectError(
        f"{where} did not accept a connection: {failure.strerror or failure}; check that the relay "
        "is running, and its port",
        phase=Phase.CONNECT,
    )
