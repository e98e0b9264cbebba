"""Finding messages, the newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Select, and_, case, cast, exists, func, select
from sqlalchemy.dialects.postgresql import JSONB

from postroom.message.address import Address
from postroom.message.validation import enum_member
from postroom.states import Lane, RecipientState, message_state
from postroom.storage.engine import SessionOrConnection, dialect_of
from postroom.storage.queue.conditions import effective_state, is_leased
from postroom.storage.row_decoding import (
    member_of,
    stored,
    subject_of,
    sure_date_of,
    tags_of,
    text_of,
    text_or_none,
)
from postroom.storage.tables import Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What to look for; every condition that is given must hold.

    ``state`` and ``address`` are a recipient's, and of the same one. ``before_id`` is the id of
    the last message of the page before.
    """

    state: RecipientState | None = None
    address: str | None = None
    tag: str | None = None
    lane: Lane | None = None
    idempotency_key: str | None = None
    limit: int = 50
    before_id: int | None = None

    def __post_init__(self) -> None:
        """Take the name of a state or a lane for the member.

        Raises:
            MessageError: there is none of that name.
        """
        if self.state is not None:
            object.__setattr__(self, "state", enum_member(RecipientState, self.state, "state"))
        if self.lane is not None:
            object.__setattr__(self, "lane", enum_member(Lane, self.lane, "lane"))


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSummary:
    """A message in a list. ``by_state`` counts its recipients, ``recipients`` all of them."""

    id: int
    idempotency_key: str | None
    subject: str
    sender: str
    lane: Lane
    tags: tuple[str, ...]
    created_at: datetime
    state: RecipientState
    recipients: int
    by_state: Mapping[RecipientState, int]


_SHOWN = ("id", "idempotency_key", "subject", "templates", "sender", "lane", "tags", "created_at")


def search(
    executor: SessionOrConnection, tables: Tables, wanted: Search
) -> tuple[MessageSummary, ...]:
    """Return a page of messages, the newest first; two statements.

    Raises:
        InvalidAddress: the address looked for is none.
    """
    rows = executor.execute(_page(tables, wanted, dialect_of(executor))).all()
    states = _states(executor, tables, [row.id for row in rows])
    return tuple(_summary(row, states[row.id]) for row in rows if row.id in states)


def _page(tables: Tables, wanted: Search, dialect: Dialect) -> Select[Any]:
    message = tables.message.c
    shown = [stored(message[name], dialect) for name in _SHOWN]
    page = select(*shown).order_by(message.id.desc()).limit(wanted.limit)
    if wanted.before_id is not None:
        page = page.where(message.id < wanted.before_id)
    if wanted.lane is not None:
        page = page.where(message.lane == wanted.lane.value)
    if wanted.idempotency_key is not None:
        page = page.where(message.idempotency_key == wanted.idempotency_key)
    if wanted.tag is not None:
        page = page.where(_has_tag(tables, wanted.tag, dialect))
    if wanted.state is not None or wanted.address is not None:
        page = page.where(_has_recipient(tables, wanted, dialect))
    return page


def _has_tag(tables: Tables, tag: str, dialect: Dialect) -> ColumnElement[bool]:
    tags = tables.message.c.tags
    if dialect.name == "postgresql":
        return cast(tags, JSONB).contains([tag])
    is_json = and_(func.typeof(tags) == "text", func.json_valid(tags))
    each = func.json_each(case((is_json, tags), else_="[]")).table_valued("value")
    return exists(select(each.c.value).where(each.c.value == tag))


def _has_recipient(tables: Tables, wanted: Search, dialect: Dialect) -> ColumnElement[bool]:
    recipient = tables.recipient
    found = select(recipient.c.id).where(recipient.c.message_id == tables.message.c.id)
    if wanted.address is not None:
        found = found.where(recipient.c.address_key == Address(wanted.address).dedup_key)
    if wanted.state is None:
        return found.exists()
    queue = tables.queue
    leased = exists(
        select(queue.c.recipient_id).where(
            queue.c.recipient_id == recipient.c.id, is_leased(tables, dialect)
        )
    )
    if wanted.state is RecipientState.SENDING:
        return found.where(leased).exists()
    return found.where(recipient.c.state == wanted.state.value, ~leased).exists()


def _states(
    executor: SessionOrConnection, tables: Tables, ids: Sequence[int]
) -> dict[int, dict[RecipientState, int]]:
    recipient, queue, dialect = tables.recipient, tables.queue, dialect_of(executor)
    leased = func.coalesce(is_leased(tables, dialect), False)
    counted = (
        select(recipient.c.message_id, stored(recipient.c.state, dialect), leased, func.count())
        .join_from(recipient, queue, queue.c.recipient_id == recipient.c.id, isouter=True)
        .where(recipient.c.message_id.in_(ids))
        .group_by(recipient.c.message_id, recipient.c.state, leased)
    )
    found: dict[int, dict[RecipientState, int]] = {}
    for message_id, state_stored, is_held, number in executor.execute(counted):
        states = found.setdefault(message_id, {})
        state = effective_state(text_of(state_stored), leased=is_held)
        states[state] = states.get(state, 0) + number
    return found


def _summary(row: Any, states: Mapping[RecipientState, int]) -> MessageSummary:
    return MessageSummary(
        id=row.id,
        idempotency_key=text_or_none(row.idempotency_key),
        subject=subject_of(row.subject, row.templates),
        sender=text_of(row.sender),
        lane=member_of(Lane, row.lane),
        tags=tags_of(row.tags),
        created_at=sure_date_of(row.created_at),
        state=message_state(states),
        recipients=sum(states.values()),
        by_state=states,
    )
