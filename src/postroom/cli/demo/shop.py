"""The shop: what an application does with Postroom. Each function runs in its caller's transaction.

What it enqueues is sent if, and only if, that transaction commits.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from postroom import Attachment, Message, Outbox, Recipient


class Base(DeclarativeBase):
    """The shop's metadata."""


class User(Base):
    """A customer, or somebody who works here."""

    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    username: Mapped[str]


class CustomerOrder(Base):
    """An order and, once it is shipped, the parcel's tracking number."""

    __tablename__ = "customer_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    order_number: Mapped[str] = mapped_column(unique=True)
    tracking_number: Mapped[str | None]

    user: Mapped[User] = relationship()


#: Seconds between tries: a person watches the demo. The default goes on for three days.
RETRY_SOON = (1.0, 2.0, 4.0)

_LINES = (
    {"quantity": 2, "article": "Fountain pen “Ærø”", "price": "58.00 €"},
    {"quantity": 1, "article": "Ink, royal blue", "price": "7.50 €"},
)


def place_order(
    session: Session, outbox: Outbox, user: User, order_number: str, also_to: str
) -> CustomerOrder:
    """Place an order and confirm it, to its user and to an address given by hand.

    Where both are the same person, in whatever spelling, one copy is sent.
    """
    order = CustomerOrder(user=user, order_number=order_number)
    session.add(order)
    session.flush()
    context = {"customer": user.username, "order_number": order_number, "lines": _LINES}
    outbox.enqueue(
        session,
        Message.from_templates("order", context=context, tags=["order"]),
        user_ids=[order.user_id],
        to=also_to,
        idempotency_key=f"order-confirmed:{order_number}",
    )
    return order


def book_parcels(session: Session, outbox: Outbox, file: Path, receivers: Iterable[int]) -> None:
    """Take tracking numbers from a CSV file; send the results, and tell the customers."""
    with file.open(newline="", encoding="utf-8") as lines:
        results = [_book(session, line) for line in csv.DictReader(lines)]
    outbox.enqueue(
        session,
        Message(
            subject=f"Results for {file.name}",
            text=f"{len(results)} lines were read; what became of each is attached.",
            attachments=[
                Attachment.csv("results.csv", results),
                Attachment.excel("results.xlsx", {"Results": results}),
            ],
            tags=["upload"],
        ),
        user_ids=receivers,
    )
    outbox.enqueue(
        session,
        Message.from_templates("shipped", retry_delays_s=RETRY_SOON, tags=["shipped"]),
        to=list(_customers(session, results)),
    )


def _book(session: Session, line: Mapping[str, str]) -> dict[str, str]:
    number, tracking = line["order_number"], line["tracking_number"]
    order = session.scalar(select(CustomerOrder).where(CustomerOrder.order_number == number))
    return {**line, "result": _booked(order, tracking)}


def _booked(order: CustomerOrder | None, tracking_number: str) -> str:
    if order is None:
        return "unknown order"
    if not tracking_number:
        return "no tracking number"
    if order.tracking_number is not None:
        return f"shipped already as {order.tracking_number}"
    order.tracking_number = tracking_number
    return "shipped"


def _customers(session: Session, results: Iterable[Mapping[str, str]]) -> Iterator[Recipient]:
    """Yield the customers of what was shipped, each with the values for their copy alone."""
    shipped = [line["order_number"] for line in results if line["result"] == "shipped"]
    orders = select(CustomerOrder).where(CustomerOrder.order_number.in_(shipped))
    for order in session.scalars(orders):
        yield Recipient(
            order.user.email,
            variables={
                "customer": order.user.username,
                "order_number": order.order_number,
                "tracking_number": order.tracking_number,
            },
        )
