"""Which relay of a route takes the next mail: one that is well, by the route's own rule."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from postroom.relays.circuit_breaker import CircuitBreaker
from postroom.relays.relay import Relay
from postroom.relays.route import Failover, Route, relays_in


class RelaySelector:
    """Chooses among the relays of ``route``; ``breakers`` are by relay name. Thread-safe.

    It only looks at the breakers. Whoever speaks with the relay asks its breaker for permission,
    so that of many mails that come this way after a rest one is the probe.
    """

    def __init__(self, route: Route, breakers: Mapping[str, CircuitBreaker]) -> None:
        self._breakers = breakers
        self._root = self._node(route)
        self.name = route.name
        self.relays = tuple(relays_in(route))

    def select(self) -> Relay | None:
        """Return the relay for the next mail; None while all of them rest."""
        return self._root.select()

    def retry_after_s(self) -> float:
        """Return how long until one of the relays may be tried; 0 where one may be now."""
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
        # A count is taken in one step, whatever other threads do.
        self._turns = itertools.count()

    def select(self) -> Relay | None:
        turn = next(self._turns) % len(self._members)
        ordered = self._members[turn:] + self._members[:turn]
        return next((relay for member in ordered if (relay := member.select())), None)


_Node = _Single | _Failover | _RoundRobin
