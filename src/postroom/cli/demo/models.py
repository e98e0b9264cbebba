"""The shop's own tables; Postroom's lie beside them in the same database."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


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
