"""Relays, users and engines, in each form that an application has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from sqlalchemy import Engine, Select

from postroom.values.relay import Relay

#: A relay's URL or the relay; or several of them by name, of which the first is the default.
Relays: TypeAlias = str | Relay | Mapping[str, str | Relay]

#: A mapped class with an ``email``, or ``select(User.id, User.email)``.
Users: TypeAlias = type[Any] | Select[*tuple[Any, ...]]


class AsyncSessionLike(Protocol):
    """An `AsyncSession`, whose module cannot be imported where greenlet is not installed."""

    async def run_sync(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Call ``fn`` with the session's synchronous face."""
        ...


class AsyncEngineLike(Protocol):
    """An `AsyncEngine`, likewise."""

    @property
    def sync_engine(self) -> Engine:
        """The engine beneath it."""
        ...


def synchronous(engine: Engine | AsyncEngineLike | None) -> Engine | None:
    """Return the engine beneath an `AsyncEngine`, and any other as it is."""
    return engine if engine is None or isinstance(engine, Engine) else engine.sync_engine


def relays_of(given: Relays | None) -> tuple[Relay, ...]:
    """Return the relays, the default one first.

    Raises:
        ConfigError: a URL cannot be made sense of.
    """
    if given is None:
        return ()
    if isinstance(given, str | Relay):
        given = {"": given}
    return tuple(
        Relay.parse(relay, name=name or None) if isinstance(relay, str) else relay
        for name, relay in given.items()
    )
