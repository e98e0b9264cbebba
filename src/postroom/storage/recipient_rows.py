"""The rows of a message's recipients, and their places in the queue.

Given one by one, they travel to the database as one JSON value: a driver's time for each row, times
100,000, would be most of an enqueue.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Dialect,
    Double,
    FromClause,
    Insert,
    Select,
    SmallInteger,
    Text,
    bindparam,
    case,
    cast,
    column,
    func,
    insert,
    literal,
    literal_column,
    null,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from postroom.states import Lane, RecipientState
from postroom.storage.engine import clock_sql
from postroom.storage.json_variables import loaded
from postroom.storage.recipients import ResolvedRecipient
from postroom.storage.tables import Tables, UtcDateTime
from postroom.storage.upsert import Upsert, upsert_on

#: The channel of PostgreSQL's NOTIFY: a hint without content, which may be lost.
CHANNEL = "postroom"

#: The columns that `_packed` gives, in its order; ``variables`` is JSON, the others are text.
_TEXTS = ("address", "address_key", "name", "type", "user_ref")
_VARIABLES = len(_TEXTS)
_GIVEN = (*_TEXTS, "variables")

#: Characters of JSON in one statement. PostgreSQL takes 256 MB of it, SQLite 1 GB, and both hold it
#: in memory several times over; more than this makes nothing faster.
_LARGEST_PORTION = 8 * 1024 * 1024

#: Recipients between two looks at how much it has become.
_WRITTEN_AT_A_TIME = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSlot:
    """Where in the queue the recipients of one message wait."""

    message_id: int
    lane: Lane
    scheduled_at: datetime | None
    at: datetime


def insert_and_queue(
    connection: Connection,
    tables: Tables,
    people: Sequence[ResolvedRecipient],
    place: QueueSlot,
    *,
    notify: bool,
) -> None:
    """Insert ``people`` and queue them, in two statements, or in one on PostgreSQL.

    In more of them where there is much to write; see `_portions`. The message must be new.

    They are due now, or at ``scheduled_at``, by the database's clock. On PostgreSQL, ``notify``
    wakes the workers when the transaction commits.
    """
    if connection.dialect.name == "postgresql":
        statement = _add_and_queue(tables, connection.dialect, notify)
        for portion in _portions(people):
            who = _where(place) | {"people": portion, "place_at": place.at}
            connection.execute(statement, who)
    else:
        insert_new(connection, tables, people, place)
        queue_all(connection, tables, place, notify=notify)


def insert_new(
    connection: Connection, tables: Tables, people: Sequence[ResolvedRecipient], place: QueueSlot
) -> None:
    """Insert those of ``people`` whom the message does not go to already; queue nobody."""
    who = {"place_message_id": place.message_id, "place_at": place.at}
    insertion = _add_new(tables, connection.dialect)
    for portion in _portions(people):
        connection.execute(insertion, who | {"people": portion})


def queue_all(connection: Connection, tables: Tables, place: QueueSlot, *, notify: bool) -> int:
    """Queue every recipient of the message, none of whom is queued yet; return how many."""
    queued = connection.execute(
        _queue_added(tables, connection.dialect),
        _where(place),
        execution_options={"preserve_rowcount": True},
    )
    if notify and connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(CHANNEL, "")))
    return queued.rowcount


def _where(place: QueueSlot) -> dict[str, Any]:
    return {
        "place_message_id": place.message_id,
        "place_lane": place.lane.rank,
        "place_not_before": place.scheduled_at.timestamp() if place.scheduled_at else 0.0,
    }


def _portions(people: Sequence[ResolvedRecipient]) -> Iterator[str]:
    """Yield ``people`` as arrays of JSON, each small enough for one statement; mostly it is one.

    Written down some at a time, so that all of it is never in memory at once.
    """
    portion: list[str] = []
    size = 0
    for start in range(0, len(people), _WRITTEN_AT_A_TIME):
        written = json.dumps(_packed(people[start : start + _WRITTEN_AT_A_TIME]))
        if portion and size + len(written) > _LARGEST_PORTION:
            yield f"[{','.join(portion)}]"
            portion, size = [], 0
        portion.append(written[1:-1])
        size += len(written)
    if portion:
        yield f"[{','.join(portion)}]"


def _packed(people: Sequence[ResolvedRecipient]) -> list[tuple[Any, ...]]:
    return [
        (
            one.address.addr_spec,
            one.dedup_key,
            one.address.name,
            one.type.value,
            one.user_ref,
            loaded(one.variables),
        )
        for one in people
    ]


@lru_cache(maxsize=32)
def _add_and_queue(tables: Tables, dialect: Dialect, notify: bool) -> Select[Any]:
    """Return the one statement of PostgreSQL: a round trip less."""
    added = _add(tables, dialect).returning(tables.recipient.c.id).cte("added")
    queued = _queue(tables, dialect, added).cte("queued")
    done = func.pg_notify(CHANNEL, "") if notify else null()
    return select(done).add_cte(queued)


@lru_cache(maxsize=32)
def _queue_added(tables: Tables, dialect: Dialect) -> Insert:
    recipient = tables.recipient.c
    added = select(recipient.id).where(recipient.message_id == bindparam("place_message_id"))
    return _queue(tables, dialect, added.subquery())


@lru_cache(maxsize=32)
def _add_new(tables: Tables, dialect: Dialect) -> Insert:
    return _add(tables, dialect).on_conflict_do_nothing()


def _add(tables: Tables, dialect: Dialect) -> Upsert:
    is_postgresql = dialect.name == "postgresql"
    given, number = _given_on_postgresql() if is_postgresql else _given_on_sqlite()
    rows = select(
        *given,
        bindparam("place_message_id", type_=tables.recipient.c.message_id.type),
        literal(RecipientState.QUEUED.value),
        bindparam("place_at", type_=UtcDateTime()),
    ).order_by(number)  # To and Cc are written by ascending id
    return upsert_on(dialect, tables.recipient).from_select(
        [*_GIVEN, "message_id", "state", "updated_at"], rows
    )


def _given_on_postgresql() -> tuple[list[ColumnElement[Any]], ColumnElement[int]]:
    given = (
        func.jsonb_array_elements(cast(bindparam("people", type_=Text()), JSONB))
        .table_valued(column("person", JSONB), with_ordinality="number")
        .render_derived(name="given")
    )
    person = given.c.person
    texts = [person[place].astext for place in range(len(_TEXTS))]
    return [
        *texts,
        func.nullif(person[_VARIABLES], literal_column("'null'::jsonb")),
    ], given.c.number


def _given_on_sqlite() -> tuple[list[ColumnElement[Any]], ColumnElement[int]]:
    given = func.json_each(bindparam("people", type_=Text())).table_valued("key", "value")
    places = range(len(_GIVEN))
    return [func.json_extract(given.c.value, f"$[{place}]") for place in places], given.c.key


def _queue(tables: Tables, dialect: Dialect, added: FromClause) -> Insert:
    now = select(clock_sql(dialect)).scalar_subquery()  # read once, not for each row
    scheduled_at: BindParameter[float] = bindparam("place_not_before", type_=Double())
    waiting = select(
        added.c.id,
        bindparam("place_message_id", type_=tables.queue.c.message_id.type),
        bindparam("place_lane", type_=SmallInteger()),
        case((scheduled_at > now, scheduled_at), else_=now),
    )
    return insert(tables.queue).from_select(
        ["recipient_id", "message_id", "lane", "due_at"], waiting
    )
