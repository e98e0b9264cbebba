"""Waiting for one message to be delivered: for scripts, which have nothing else to do."""

from __future__ import annotations

import time

from sqlalchemy import select

from postroom.post import Post
from postroom.storage import queries
from postroom.storage.engine import Executor, read
from postroom.storage.models import Tables
from postroom.storage.queries import MessageStatus
from postroom.values.errors import UnknownMessage

#: How often the database is asked; a person does not feel it.
_LOOK_EVERY_S = 0.05


def deliver(
    post: Post, tables: Tables, session: Executor, message_id: int, *, timeout_s: float
) -> MessageStatus:
    """Deliver from this process until nothing more happens to a message, or time is up.

    ``session`` is asked only where nobody else can see the message.

    Raises:
        UnknownMessage: there is no such message, or it is not committed.
        ConfigError: there is no engine or no relay, or the database cannot be used.
    """
    give_up_at = time.monotonic() + timeout_s
    if not _is_committed(post, tables, message_id):
        queries.status(session, tables, message_id)
        raise UnknownMessage(
            f"expected message {message_id} to be committed before it is delivered, got: a "
            "transaction that is still open; call session.commit() first"
        )
    with post.at_work():
        while _is_waiting(post, tables, message_id) and time.monotonic() < give_up_at:
            if (refused := post.refused) is not None:
                raise refused
            time.sleep(_LOOK_EVERY_S)
    with read(post.engine) as connection:
        return queries.status(connection, tables, message_id)


def _is_committed(post: Post, tables: Tables, message_id: int) -> bool:
    message = tables.message.c
    with read(post.engine) as connection:
        return connection.scalar(select(message.id).where(message.id == message_id)) is not None


def _is_waiting(post: Post, tables: Tables, message_id: int) -> bool:
    with read(post.engine) as connection:
        return queries.is_waiting(connection, tables, message_id)
