"""The outbox of an ASGI application: bound to each request, delivering while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Unpack

from fastapi import Depends

from postroom.config.settings import Settings
from postroom.errors import ConfigError
from postroom.message.message import Message
from postroom.outbox import Outbox
from postroom.storage.actions import CancelResult
from postroom.storage.engine import SessionOrConnection
from postroom.storage.enqueue_request import Receipt, RecipientArguments
from postroom.storage.queries import MessageStatus
from postroom.typing import AsyncSessionLike


class BoundOutbox:
    """An outbox on one `Session`; the methods are those of `Outbox`. None of them commits.

    Attributes:
        outbox: The outbox.
        session: The session.
    """

    def __init__(self, outbox: Outbox, session: SessionOrConnection) -> None:
        self.outbox = outbox
        self.session = session

    def enqueue(
        self,
        message: Message,
        **addressing: Unpack[RecipientArguments],
    ) -> Receipt:
        """Write ``message`` in the session's transaction, as `Outbox.enqueue` does.

        Args:
            message: What to send, and how.
            **addressing: ``to``, ``cc``, ``bcc``, ``user_ids`` and ``idempotency_key``.
        """
        return self.outbox.enqueue(self.session, message, **addressing)

    def status(self, message: int | Receipt) -> MessageStatus:
        """Return the state of a message and of each of its recipients.

        Args:
            message: The message's id, or its receipt.
        """
        return self.outbox.status(self.session, message)

    def cancel(self, message: int | Receipt) -> CancelResult:
        """Cancel a message for every recipient that is not being sent to already.

        Args:
            message: The message's id, or its receipt.
        """
        return self.outbox.cancel(self.session, message)


class AsyncBoundOutbox:
    """The outbox on an `AsyncSession`; the same as `BoundOutbox`, awaited."""

    def __init__(self, outbox: Outbox, session: AsyncSessionLike) -> None:
        self.outbox = outbox
        self.session = session

    async def enqueue(
        self,
        message: Message,
        **addressing: Unpack[RecipientArguments],
    ) -> Receipt:
        """Write ``message`` in the session's transaction, as `Outbox.enqueue` does.

        Args:
            message: What to send, and how.
            **addressing: ``to``, ``cc``, ``bcc``, ``user_ids`` and ``idempotency_key``.
        """
        return await self.outbox.aenqueue(self.session, message, **addressing)

    async def status(self, message: int | Receipt) -> MessageStatus:
        """Return the state of a message and of each of its recipients.

        Args:
            message: The message's id, or its receipt.
        """
        found: MessageStatus = await self.session.run_sync(self.outbox.status, message)
        return found

    async def cancel(self, message: int | Receipt) -> CancelResult:
        """Cancel a message for every recipient that is not being sent to already.

        Args:
            message: The message's id, or its receipt.
        """
        done: CancelResult = await self.session.run_sync(self.outbox.cancel, message)
        return done


class Postroom:
    """The outbox of an ASGI application, on the session of the current request.

    Depend on ``dependency``: it is an `AsyncBoundOutbox` where the session is an `AsyncSession`,
    and a `BoundOutbox` where it is a `Session`.

    Args:
        outbox: The outbox to bind.
        get_session: The application's own dependency, which gives a request its session.
        worker: Whether this process delivers as well; where None, the setting
            ``in_process_worker`` says it.
    """

    def __init__(
        self,
        outbox: Outbox,
        get_session: Callable[..., Any] | None = None,
        *,
        worker: bool | None = None,
    ) -> None:
        self.outbox = outbox
        self._worker = worker
        self._bound_dependency = self._dependency(get_session)

    @property
    def dependency(self) -> Callable[..., Any]:
        """The dependency: the outbox on the request's session.

        Raises:
            ConfigError: ``get_session`` was not given.
        """
        if self._bound_dependency is None:
            raise ConfigError(
                "Postroom does not know where a request's session comes from: make it with "
                "Postroom(outbox, get_session)"
            )
        return self._bound_dependency

    def bind(self, session: Any) -> Any:
        """Return the outbox on ``session``: an `AsyncBoundOutbox` or a `BoundOutbox`.

        Args:
            session: A `Session` or an `AsyncSession`.
        """
        kind = AsyncBoundOutbox if hasattr(session, "run_sync") else BoundOutbox
        return kind(self.outbox, session)

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Deliver while ``app`` runs: ``FastAPI(lifespan=postroom.lifespan)``.

        Args:
            app: The application, as Starlette passes it.

        Raises:
            SchemaError: the tables are missing, too old or too new.
            ConfigError: there is no engine or no relay, or the database cannot be used.
        """
        async with self.running():
            yield

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver within an ``async with`` block, for an application with a lifespan of its own.

        Raises what `lifespan` raises.
        """
        delivers = self._worker
        if delivers is None:
            delivers = Settings.load().in_process_worker
        if not delivers:
            yield
            return
        # Both wait for the database or for a relay, which must not block the event loop.
        await asyncio.to_thread(self.outbox.start)
        try:
            yield
        finally:
            await asyncio.to_thread(self.outbox.stop)

    def _dependency(self, get_session: Callable[..., Any] | None) -> Callable[..., Any] | None:
        if get_session is None:
            return None

        async def outbox_dependency(session: Any = Depends(get_session)) -> Any:  # noqa: B008 - FastAPI reads it
            return self.bind(session)

        return outbox_dependency
