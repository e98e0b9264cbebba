"""An application's own models, and how its tests enqueue."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from postroom.message.message import Message
from postroom.storage.enqueue import enqueue
from postroom.storage.enqueue_request import EnqueueRequest, OutboxDefaults, Receipt
from postroom.storage.tables import Tables, tables
from postroom.storage.users import UserLookup


class Base(DeclarativeBase):
    """The application's metadata, beside ours."""


class User(Base):
    __tablename__ = "shop_user"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None]
    name: Mapped[str | None]
    username: Mapped[str | None]


DEFAULTS = OutboxDefaults(users=UserLookup.of(User))


def message(**fields: Any) -> Message:
    return Message(**({"sender": "Shop <shop@example.com>", "subject": "Hi"} | fields))


def place(executor: Any, mail: Message | None = None, **fields: Any) -> Receipt:
    """Enqueue ``mail`` (by default `message`); ``defaults`` may be among ``fields``."""
    defaults = fields.pop("defaults", DEFAULTS)
    return enqueue(
        executor, tables(), EnqueueRequest(message=mail or message(), **fields), defaults
    )


def rows(executor: Any, columns: str, table: Any) -> list[tuple[Any, ...]]:
    """Return the named columns of everything in ``table``, by id."""
    wanted = [table.c[name] for name in columns.split()]
    return [tuple(row) for row in executor.execute(select(*wanted).order_by(*table.primary_key))]


def addressed(executor: Any, tables: Tables) -> list[tuple[Any, ...]]:
    """Return type and address of every recipient."""
    return rows(executor, "type address", tables.recipient)


def migrate(engine: Engine, *users: User) -> None:
    """Create the application's tables, with ``users`` in them."""
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(users)
