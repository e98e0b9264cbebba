"""Selects the relay of a route for the next mail.

A relay whose circuit breaker is open is never selected.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from postroom.relays.circuit_breaker import CircuitBreaker
from postroom.relays.relay import Relay
from postroom.relays.route import Failover, Route, relays_in


class RelaySelector:
    """Selects among the relays of one route. Thread-safe.

    It only reads the circuit breakers. Senders call ``CircuitBreaker.allow_request`` themselves, so
    that when a breaker may close again only one of many mails is the probe.

    Args:
        route: A relay, or relays composed by failover or round robin.
        breakers: The circuit breakers by relay name.

    Attributes:
        name: The name of the route.
        relays: Every relay of the route, in the order written.
    """

    def __init__(self, route: Route, breakers: Mapping[str, CircuitBreaker]) -> None:
        self._breakers = breakers
        self._root = self._node(route)
        self.name = route.name
        self.relays = tuple(relays_in(route))

    def select(self) -> Relay | None:
        """Return the relay for the next mail; None while all circuit breakers are open."""
        return self._root.select()

    def retry_after_s(self) -> float:
        """Return the seconds until a relay may be tried; 0 if one may be used now."""
        return min(self._breakers[relay.name].retry_after_s() for relay in self.relays)

    def _node(self, route: Route) -> _Node:
        if isinstance(route, Relay):
            return _Single(route, self._breakers[route.name])
        members = [self._node(member) for member in route.members]
        return _Failover(members) if isinstance(route, Failover) else _RoundRobin(members)


class _Single:
    def __init__(self, relay: Relay, breaker: CircuitBreaker) -> None:
        self._relay = relay
        self._breaker = breaker

    def select(self) -> Relay | None:
        return self._relay if self._breaker.retry_after_s() == 0 else None


class _Failover:
    def __init__(self, members: list[_Node]) -> None:
        self._members = members

    def select(self) -> Relay | None:
        return next((relay for member in self._members if (relay := member.select())), None)


class _RoundRobin:
    def __init__(self, members: list[_Node]) -> None:
        self._members = members
        # next() on it is atomic, so it needs no lock.
        self._turns = itertools.count()

    def select(self) -> Relay | None:
        turn = next(self._turns) % len(self._members)
        ordered = self._members[turn:] + self._members[:turn]
        return next((relay for member in ordered if (relay := member.select())), None)


_Node = _Single | _Failover | _RoundRobin
