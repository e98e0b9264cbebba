"""The shop's own tables; Postroom's lie beside them in the same database."""

from __future__ import annotations

import secrets
from enum import StrEnum

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from examples.shop.money import euros


class Base(DeclarativeBase):
    """What the tables share. ``db.Model`` would do as well; of this, type checkers see more."""


db = SQLAlchemy(model_class=Base)


class User(Base):
    """A customer, or somebody who works here."""

    __tablename__ = "user"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    username: Mapped[str]
    is_admin: Mapped[bool] = mapped_column(default=False)


class CustomerOrder(Base):
    """An order and, once it is shipped, the parcel's tracking number."""

    __tablename__ = "customer_order"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), index=True)
    order_number: Mapped[str] = mapped_column(
        unique=True, default=lambda: f"A-{secrets.token_hex(4).upper()}"
    )
    tracking_number: Mapped[str | None]

    user: Mapped[User] = relationship()
    lines: Mapped[list[OrderLine]] = relationship(order_by="OrderLine.id")

    @property
    def total(self) -> str:
        """What all of it costs, to be read."""
        return euros(sum(line.price_cents * line.quantity for line in self.lines))


class OrderLine(Base):
    """An article of an order, at the price it had then."""

    __tablename__ = "order_line"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("customer_order.id"), index=True)
    article: Mapped[str]
    quantity: Mapped[int]
    price_cents: Mapped[int]

    @property
    def amount(self) -> str:
        """What the line costs, to be read."""
        return euros(self.price_cents * self.quantity)


class UploadState(StrEnum):
    """How far an uploaded file has come."""

    #: Nobody has begun with it.
    WAITING = "waiting"
    #: Every line was read; what became of each has been mailed.
    BOOKED = "booked"
    #: Nothing of it was booked; the administrators know.
    FAILED = "failed"


class Upload(Base):
    """A file of tracking numbers, booked in the background."""

    __tablename__ = "upload"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user.id"), index=True)
    receiver_email: Mapped[str | None]
    file_name: Mapped[str]
    content: Mapped[bytes] = mapped_column(deferred=True)
    state: Mapped[UploadState] = mapped_column(default=UploadState.WAITING, index=True)
    reason: Mapped[str | None]

    user: Mapped[User] = relationship()
