"""Routes: a relay, or several composed by failover or round robin, to any depth.

Within a route, two different relays never share a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from postroom import checks
from postroom.errors import ConfigError
from postroom.relays.relay import Relay
from postroom.text import shorten_repr

_TOKEN = re.compile(r"\s*(failover\(|roundrobin\(|\)|[^\s()]+|.)")
_NAME = re.compile(r"[\w.-]+")
#: The width of the column in which a message names its relay.
_MAX_NAME = 64
_EXAMPLE = "failover(smtp://first.example.com smtp://second.example.com)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """Uses the first member that is available, in the order given.

    A member is available while its circuit breaker is closed.

    Attributes:
        name: What messages and rules call the route, up to 64 characters.
        members: Relays or further routes; at least one.

    Raises:
        ConfigError: There is no member, or one of them is not a route.
    """

    name: str
    members: tuple[Route, ...]

    def __post_init__(self) -> None:
        """Check the name and the members."""
        _check(self.name, self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRobin:
    """Uses the available members in turn.

    A member is available while its circuit breaker is closed.

    Attributes:
        name: What messages and rules call the route, up to 64 characters.
        members: Relays or further routes; at least one.

    Raises:
        ConfigError: There is no member, or one of them is not a route.
    """

    name: str
    members: tuple[Route, ...]

    def __post_init__(self) -> None:
        """Check the name and the members."""
        _check(self.name, self.members)


Route = Relay | Failover | RoundRobin


def _check(name: Any, members: Any) -> None:
    checks.text(name, "a route's name", longest=_MAX_NAME)
    is_tuple = isinstance(members, tuple)
    if not is_tuple or not members or not all(isinstance(one, Route) for one in members):
        raise ConfigError(
            f"the members of a route must be a tuple of routes, not {shorten_repr(members)}"
        )


_COMPOSED: Mapping[str, type[Failover] | type[RoundRobin]] = {
    "failover(": Failover,
    "roundrobin(": RoundRobin,
}


def parse_route(
    text: str, *, name: str | None = None, known: Mapping[str, Route] | None = None
) -> Route:
    """Read a relay URL, ``failover(a b)`` or ``roundrobin(a b)``.

    Args:
        text: The route. Members are relay URLs, further routes, or names from ``known``.
        name: The name of the route; by default that of the relay, ``failover`` or ``roundrobin``.
        known: The routes that ``text`` may name.

    Raises:
        ConfigError: The text cannot be read, it names an unknown route, or two relays share a name.
    """
    checks.instance(str, text, "a route")
    tokens = [token for token in _TOKEN.findall(text) if not token.isspace()]
    if not tokens:
        raise _unreadable("it is empty")
    position, route = _read(tokens, 0, known or {}, name)
    if position < len(tokens):
        raise _unreadable("there is text after its end")
    _refuse_duplicate_names(route)
    return route


def relays_in(route: Route) -> Iterator[Relay]:
    """Yield every relay of ``route``, in the order written.

    Args:
        route: A relay or a composed route.
    """
    if isinstance(route, Relay):
        yield route
    else:
        for member in route.members:
            yield from relays_in(member)


def _read(
    tokens: list[str], position: int, known: Mapping[str, Route], name: str | None
) -> tuple[int, Route]:
    """Return the route that begins at ``position``, and where it ends."""
    word = tokens[position]
    composed = _COMPOSED.get(word)
    if composed is None:
        return position + 1, _leaf(word, known, name)
    position += 1
    members: list[Route] = []
    while position < len(tokens) and tokens[position] != ")":
        position, member = _read(tokens, position, known, None)
        members.append(member)
    if position == len(tokens):
        raise _unreadable("a bracket is not closed")
    if not members:
        raise _unreadable("it has no member")
    return position + 1, composed(name=name or word[:-1], members=tuple(members))


def _leaf(word: str, known: Mapping[str, Route], name: str | None) -> Route:
    if word in {"(", ")"}:
        raise _unreadable("a bracket has no partner")
    if "://" in word:
        return Relay.parse(word, name=name)
    if word not in known:
        names = ", ".join(sorted(known)) or "none"
        # If it is not a name, it may be a mistyped URL with a password in it.
        found = shorten_repr(word) if _NAME.fullmatch(word) else "this text"
        raise ConfigError(
            f"{found} is neither a relay URL nor the name of a relay; known are: {names}"
        )
    return known[word]


def _refuse_duplicate_names(route: Route) -> None:
    relays: dict[str, Relay] = {}
    for relay in relays_in(route):
        if relays.setdefault(relay.name, relay) != relay:
            raise ConfigError(
                f"two relays of a route are named {relay.name}; give them different names with "
                "?name=…"
            )


def _unreadable(problem: str) -> ConfigError:
    return ConfigError(f"the route cannot be read: {problem}; write it like {_EXAMPLE}")
