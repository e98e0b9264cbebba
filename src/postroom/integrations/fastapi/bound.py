"""An outbox bound to one session: what an endpoint asks for."""

from __future__ import annotations

from typing import Unpack

from postroom.outbox import Outbox
from postroom.storage.decisions import Cancellation
from postroom.storage.engine import Executor
from postroom.storage.order import Addressing, Receipt
from postroom.storage.queries import MessageStatus
from postroom.values.message import Message
from postroom.wiring import AsyncSessionLike


class Mail:
    """The outbox on a `Session`. Nothing here commits; the methods are those of `Outbox`."""

    def __init__(self, outbox: Outbox, session: Executor) -> None:
        self.outbox = outbox
        self.session = session

    def enqueue(
        self,
        message: Message,
        **addressing: Unpack[Addressing],
    ) -> Receipt:
        """Write ``message`` in the session's transaction; raises what `Outbox.enqueue` does."""
        return self.outbox.enqueue(self.session, message, **addressing)

    def status(self, message: int | Receipt) -> MessageStatus:
        """Return where a message and each of its recipients stand."""
        return self.outbox.status(self.session, message)

    def cancel(self, message: int | Receipt) -> Cancellation:
        """Cancel a message for every recipient who is not being sent to already."""
        return self.outbox.cancel(self.session, message)


class AsyncMail:
    """The outbox on an `AsyncSession`; the same as `Mail`, awaited."""

    def __init__(self, outbox: Outbox, session: AsyncSessionLike) -> None:
        self.outbox = outbox
        self.session = session

    async def enqueue(
        self,
        message: Message,
        **addressing: Unpack[Addressing],
    ) -> Receipt:
        """Write ``message`` in the session's transaction; raises what `Outbox.enqueue` does."""
        return await self.outbox.aenqueue(self.session, message, **addressing)

    async def status(self, message: int | Receipt) -> MessageStatus:
        """Return where a message and each of its recipients stand."""
        found: MessageStatus = await self.session.run_sync(self.outbox.status, message)
        return found

    async def cancel(self, message: int | Receipt) -> Cancellation:
        """Cancel a message for every recipient who is not being sent to already."""
        done: Cancellation = await self.session.run_sync(self.outbox.cancel, message)
        return done
