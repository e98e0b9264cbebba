"""Which relay of a route takes the next mail: one that is well, by the route's own rule."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from postroom.smtp.breaker import Breaker
from postroom.values.relay import Relay
from postroom.values.route import Failover, Route, relays_in


class Router:
    """Chooses among the relays of ``route``; ``breakers`` are by relay name. Thread-safe.

    It only looks at the breakers. Whoever speaks with the relay asks its breaker for permission,
    so that of many mails that come this way after a rest one is the probe.
    """

    def __init__(self, route: Route, breakers: Mapping[str, Breaker]) -> None:
        self._breakers = breakers
        self._root = self._node(route)
        self.name = route.name
        self.relays = tuple(relays_in(route))

    def choose(self) -> Relay | None:
        """Return the relay for the next mail; None while all of them rest."""
        return self._root.choose()

    def pause_s(self) -> float:
        """Return how long until one of the relays may be tried; 0 where one may be now."""
        return min(self._breakers[relay.name].pause_s() for relay in self.relays)

    def _node(self, route: Route) -> _Node:
        if isinstance(route, Relay):
            return _Leaf(route, self._breakers[route.name])
        members = [self._node(member) for member in route.members]
        return _InOrder(members) if isinstance(route, Failover) else _InTurn(members)


class _Leaf:
    def __init__(self, relay: Relay, breaker: Breaker) -> None:
        self._relay = relay
        self._breaker = breaker

    def choose(self) -> Relay | None:
        return self._relay if self._breaker.pause_s() == 0 else None


class _InOrder:
    def __init__(self, members: list[_Node]) -> None:
        self._members = members

    def choose(self) -> Relay | None:
        return next((relay for member in self._members if (relay := member.choose())), None)


class _InTurn:
    def __init__(self, members: list[_Node]) -> None:
        self._members = members
        # A count is taken in one step, whatever other threads do.
        self._turns = itertools.count()

    def choose(self) -> Relay | None:
        turn = next(self._turns) % len(self._members)
        ordered = self._members[turn:] + self._members[:turn]
        return next((relay for member in ordered if (relay := member.choose())), None)


_Node = _Leaf | _InOrder | _InTurn
