"""Types for annotations: what the parameters of an outbox take, in each form applications have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from sqlalchemy import Engine, Select

from postroom.relays.routing import Relays
from postroom.states import LaneLike, OnDoubtLike, RecipientStateLike
from postroom.storage.engine import SessionOrConnection
from postroom.storage.enqueue_request import (
    CopiedLike,
    ExplicitRecipients,
    RecipientArguments,
    RecipientLike,
    RecipientsLike,
)

__all__ = [
    "AsyncEngineLike",
    "AsyncSessionLike",
    "CopiedLike",
    "ExplicitRecipients",
    "LaneLike",
    "OnDoubtLike",
    "RecipientArguments",
    "RecipientLike",
    "RecipientStateLike",
    "RecipientsLike",
    "Relays",
    "SessionOrConnection",
    "UsersLike",
]

#: A mapped class with an ``email``, or ``select(User.id, User.email)``.
UsersLike: TypeAlias = type[Any] | Select[*tuple[Any, ...]]


class AsyncSessionLike(Protocol):
    """An `AsyncSession`, whose module is not loaded for those who have none."""

    async def run_sync(self, fn: Callable[..., Any], /, *args: Any) -> Any:
        """Call ``fn`` with the session's synchronous face."""
        ...


class AsyncEngineLike(Protocol):
    """An `AsyncEngine`, likewise."""

    @property
    def sync_engine(self) -> Engine:
        """The engine beneath it."""
        ...


def sync_engine_of(engine: Engine | AsyncEngineLike | None) -> Engine | None:
    """Return the engine beneath an `AsyncEngine`, and any other as it is."""
    return engine if engine is None or isinstance(engine, Engine) else engine.sync_engine
