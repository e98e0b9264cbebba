"""Which route a message takes: the one it names, its sender's domain's, its lane's, the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from postroom.errors import ConfigError
from postroom.relays.relay import Relay
from postroom.relays.route import Route, parse_route, relays_in
from postroom.states import Lane
from postroom.text import shorten_repr

#: A route or its text; or several of them by name, of which the first is the default.
Relays: TypeAlias = (
    str | Route | Mapping[str, str] | Mapping[str, Route] | Mapping[str, str | Route]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTable:
    """Routes by name, the first of them the default, and rules for messages that name none.

    ``by_sender`` maps sender domains, ``by_lane`` lanes, to names of routes. A relay inside a route
    may be named as well.

    Raises:
        ConfigError: a rule names no route, or two relays share a name.
    """

    routes: tuple[Route, ...]
    by_sender: Mapping[str, str] = field(default_factory=dict)
    by_lane: Mapping[Lane, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse rules that lead nowhere."""
        if not self.routes:
            raise ConfigError("expected at least one relay, got: none")
        known = self.named()
        for name in (*self.by_sender.values(), *self.by_lane.values()):
            if name not in known:
                raise ConfigError(
                    f"expected a rule to name one of the relays {', '.join(sorted(known))}, "
                    f"got: {name}"
                )

    @classmethod
    def of(
        cls,
        given: Relays | RoutingTable,
        *,
        by_sender: Mapping[str, str] | None = None,
        by_lane: Mapping[str, str] | Mapping[Lane, str] | None = None,
    ) -> RoutingTable:
        """Read a relay's URL, ``failover(a b)`` or ``roundrobin(a b)``, or several by name.

        Later ones may name earlier ones as members.

        Raises:
            ConfigError: a URL or a rule cannot be made sense of.
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
        """Return the same with so many connections to each relay."""
        return replace(
            self, routes=tuple(_with_connections(route, connections) for route in self.routes)
        )

    @property
    def relays(self) -> dict[str, Relay]:
        """Every relay of every route, by name."""
        return {relay.name: relay for route in self.routes for relay in relays_in(route)}

    def named(self) -> dict[str, Route]:
        """Return everything that a message or a rule may name."""
        return {**self.relays, **{route.name: route for route in self.routes}}

    def name_for(self, relay: str | None, sender_domain: str, lane: Lane) -> str:
        """Return the name of the route that ``message`` takes."""
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
        raise ConfigError(f"expected a lane to be one of {lanes}, got: {name!r}") from None
