"""What an application may write: never run, but checked by mypy and pyright."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from postroom import (
    Address,
    Attachment,
    Lane,
    Message,
    MessageStatus,
    MessageSummary,
    OnDoubt,
    Outbox,
    Receipt,
    Recipient,
    RecipientState,
    Template,
    WorkerConfig,
)
from postroom.typing import RecipientsLike


class Base(DeclarativeBase):
    """The application's models."""


class User(Base):
    """A user."""

    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]


def messages() -> list[Message]:
    """Return messages whose words are texts or members."""
    return [
        Message(subject="Hello", text="Hi", lane="bulk", on_doubt="hold"),
        Message(lane="urgent", sender="Shop <shop@example.com>", expires_at=datetime.now(UTC)),
        Message(lane=Lane.NORMAL, on_doubt=OnDoubt.RESEND, sender=Address("shop@example.com")),
        Message(html=Template("order.html", number=7), attachments=[Attachment.from_path("a.pdf")]),
    ]


def recipients() -> list[RecipientsLike]:
    """Return each form of recipients."""
    return [
        "ann@example.com",
        Address.from_parts(local="ann", domain="example.com", name="Lee, Ann"),
        Recipient("ann@example.com", {"points": 7}),
        ["ann@example.com", Address("bob@example.com"), select(User.email)],
        select(User.email, User.id),
    ]


def enqueued(outbox: Outbox, session: Session, message: Message) -> Receipt:
    """Enqueue to one, and to several."""
    outbox.enqueue(session, message, to="ann@example.com", cc=Address("bob@example.com"))
    outbox.enqueue(session, message, to=["ann@example.com"], bcc=[Recipient("c@example.com")])
    return outbox.enqueue(session, message, user_ids=[7], idempotency_key="order-7")


async def enqueued_later(outbox: Outbox, session: AsyncSession, message: Message) -> Receipt:
    """Enqueue in an asynchronous session."""
    return await outbox.aenqueue(session, message, to="ann@example.com")


def found(outbox: Outbox, session: Session) -> tuple[MessageSummary, ...]:
    """Search by names and by members."""
    outbox.search(session, state=RecipientState.REJECTED, lane=Lane.BULK)
    return outbox.search(session, state="rejected", lane="bulk", tag="news", limit=10)


def made() -> Outbox:
    """Make an outbox with a worker's settings."""
    engine = create_engine("sqlite://")
    worker = WorkerConfig(lane_weights={Lane.URGENT: 8, Lane.NORMAL: 4, Lane.BULK: 1})
    return Outbox("smtp://relay.example", engine=engine, users=User, worker=worker)


def delivered(outbox: Outbox, session: Session, receipt: Receipt) -> MessageStatus:
    """Deliver, decide and prune."""
    outbox.retry(session, receipt, ["ann@example.com"])
    outbox.resolve(session, receipt.message_id, sent=True)
    outbox.prune(timedelta(days=30))
    return outbox.deliver(session, receipt)
