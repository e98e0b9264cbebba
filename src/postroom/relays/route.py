"""Routes: relays composed by failover or round robin, nested as deep as one likes."""

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
#: As wide as the column in which a message names its relay.
_LONGEST_NAME = 64
_EXAMPLE = "failover(smtp://first.example.com smtp://second.example.com)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """The first of ``members`` that is well; the others while it rests."""

    name: str
    members: tuple[Route, ...]

    def __post_init__(self) -> None:
        """Refuse a route that leads nowhere."""
        _check(self.name, self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRobin:
    """``members`` in turn, those left out that rest."""

    name: str
    members: tuple[Route, ...]

    def __post_init__(self) -> None:
        """Refuse a route that leads nowhere."""
        _check(self.name, self.members)


Route = Relay | Failover | RoundRobin


def _check(name: Any, members: Any) -> None:
    checks.text(name, "a route's name", longest=_LONGEST_NAME)
    is_tuple = isinstance(members, tuple)
    if not is_tuple or not members or not all(isinstance(one, Route) for one in members):
        raise ConfigError(
            f"the members of a route must be a tuple of routes, not {shorten_repr(members)}"
        )


_KINDS: Mapping[str, type[Failover] | type[RoundRobin]] = {
    "failover(": Failover,
    "roundrobin(": RoundRobin,
}


def parse_route(
    text: str, *, name: str | None = None, known: Mapping[str, Route] | None = None
) -> Route:
    """Read a relay URL, ``failover(a b)`` or ``roundrobin(a b)``.

    Members are relay URLs, further routes, or names from ``known``. ``name`` is what messages
    call the whole by; a composed route is otherwise called by its kind.

    Raises:
        ConfigError: it cannot be read, names an unknown route, or two of its relays share a name.
    """
    checks.instance(str, text, "a route")
    tokens = [token for token in _TOKEN.findall(text) if not token.isspace()]
    if not tokens:
        raise _unreadable("nothing")
    position, route = _read(tokens, 0, known or {}, name)
    if position < len(tokens):
        raise _unreadable("something after its end")
    _refuse_duplicate_names(route)
    return route


def relays_in(route: Route) -> Iterator[Relay]:
    """Yield every relay of ``route``, in the order written."""
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
    kind = _KINDS.get(word)
    if kind is None:
        return position + 1, _leaf(word, known, name)
    position += 1
    members: list[Route] = []
    while position < len(tokens) and tokens[position] != ")":
        position, member = _read(tokens, position, known, None)
        members.append(member)
    if position == len(tokens):
        raise _unreadable("a bracket that does not close")
    if not members:
        raise _unreadable("no member in it")
    return position + 1, kind(name=name or word[:-1], members=tuple(members))


def _leaf(word: str, known: Mapping[str, Route], name: str | None) -> Route:
    if word in {"(", ")"}:
        raise _unreadable("a bracket that stands alone")
    if "://" in word:
        return Relay.parse(word, name=name)
    if word not in known:
        names = ", ".join(sorted(known)) or "none"
        # What is no name may be a URL gone wrong, with a password in it.
        got = shorten_repr(word) if _NAME.fullmatch(word) else "something else"
        raise ConfigError(f"expected a relay URL or one of the relays {names}, got: {got}")
    return known[word]


def _refuse_duplicate_names(route: Route) -> None:
    relays: dict[str, Relay] = {}
    for relay in relays_in(route):
        if relays.setdefault(relay.name, relay) != relay:
            raise ConfigError(
                f"expected a name of its own for each relay of a route, got: {relay.name} twice; "
                "tell them apart with ?name=…"
            )


def _unreadable(what: str) -> ConfigError:
    return ConfigError(f"expected a route to be like {_EXAMPLE}, got: {what}")
