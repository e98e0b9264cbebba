"""Chooses the route of a message.

The first that applies: the route that the message names, the one of its sender's domain, the one of
its lane, the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from postroom.errors import ConfigError
from postroom.relays.relay import Relay
from postroom.relays.route import Route, parse_route, relays_in
from postroom.states import Lane
from postroom.text import shorten_repr

#: A route or its text, or several of them by name; the first one is the default.
Relays: TypeAlias = (
    str | Route | Mapping[str, str] | Mapping[str, Route] | Mapping[str, str | Route]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTable:
    """All routes, and the rules for messages that name none.

    Attributes:
        routes: The routes; the first one is the default.
        by_sender: Sender domain, in lower case -> name of a route or of a relay inside one.
        by_lane: Lane -> name of a route or of a relay inside one.

    Raises:
        ConfigError: There is no route, or a rule names an unknown one.
    """

    routes: tuple[Route, ...]
    by_sender: Mapping[str, str] = field(default_factory=dict)
    by_lane: Mapping[Lane, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that every rule names a route."""
        if not self.routes:
            raise ConfigError("at least one relay is needed")
        known = self.named()
        for name in (*self.by_sender.values(), *self.by_lane.values()):
            if name not in known:
                raise ConfigError(
                    f"a rule names the relay {name}, which does not exist; known are: "
                    f"{', '.join(sorted(known))}"
                )

    @classmethod
    def of(
        cls,
        given: Relays | RoutingTable,
        *,
        by_sender: Mapping[str, str] | None = None,
        by_lane: Mapping[str, str] | Mapping[Lane, str] | None = None,
    ) -> RoutingTable:
        """Make a routing table from what an application or a setting gives.

        Args:
            given: A relay URL, ``failover(a b)``, ``roundrobin(a b)``, a route, or several of them
                by name: later ones may name earlier ones as members. A table is returned as it is.
            by_sender: Sender domain -> name of a route; domains in any case.
            by_lane: Lane -> name of a route.

        Raises:
            ConfigError: A URL or a rule cannot be read.
        """
        if isinstance(given, RoutingTable):
            return given
        named: Mapping[Any, Any] = given if isinstance(given, Mapping) else {"": given}
        known: dict[str, Route] = {}
        for name, one in named.items():
            if not isinstance(name, str) or not isinstance(one, str | Route):
                raise ConfigError(
                    "a relay must be a URL or a route, or several of them by name, not "
                    f"{shorten_repr(name)}: {type(one).__name__}"
                )
            if isinstance(one, str):
                route = parse_route(one, name=name or None, known=known)
            else:
                route = one
            known[name or route.name] = route
        return cls(
            routes=tuple(known.values()),
            by_sender={domain.lower(): name for domain, name in (by_sender or {}).items()},
            by_lane={_lane(lane): name for lane, name in (by_lane or {}).items()},
        )

    def with_connections(self, connections: int) -> RoutingTable:
        """Return a copy with another number of connections for every relay.

        Args:
            connections: The most connections at the same time, for each worker.
        """
        return replace(
            self, routes=tuple(_with_connections(route, connections) for route in self.routes)
        )

    @property
    def relays(self) -> dict[str, Relay]:
        """Return every relay of every route, by name."""
        return {relay.name: relay for route in self.routes for relay in relays_in(route)}

    def named(self) -> dict[str, Route]:
        """Return every route and relay that a message or a rule may name."""
        return {**self.relays, **{route.name: route for route in self.routes}}

    def name_for(self, relay: str | None, sender_domain: str, lane: Lane) -> str:
        """Return the name of the route for a message.

        Args:
            relay: The route that the message names; None: the rules decide.
            sender_domain: The domain of the sender's address, in any case.
            lane: The lane of the message.
        """
        if relay is not None:
            return relay
        by_sender = self.by_sender.get(sender_domain.lower())
        return by_sender or self.by_lane.get(lane) or self.routes[0].name


def _with_connections(route: Route, connections: int) -> Route:
    if isinstance(route, Relay):
        return replace(route, connections=connections)
    return replace(
        route, members=tuple(_with_connections(one, connections) for one in route.members)
    )


def _lane(name: str) -> Lane:
    try:
        return Lane(name)
    except ValueError:
        lanes = ", ".join(Lane)
        raise ConfigError(f"a lane must be one of {lanes}, not {name!r}") from None
