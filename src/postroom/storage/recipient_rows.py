"""The rows of a message's recipients, and their slots in the queue.

Recipients given one by one go to the database as one JSON value: the driver's time for each row,
times 100,000, would be most of an enqueue.
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

from postroom.batching import batched
from postroom.states import Lane, RecipientState
from postroom.storage.engine import clock_sql
from postroom.storage.json_variables import loaded
from postroom.storage.recipients import ResolvedRecipient
from postroom.storage.tables import Tables, UtcDateTime
from postroom.storage.upsert import Upsert, upsert_on
from postroom.storage.workers import CHANNEL

#: The columns that `_packed_rows` returns, in order; ``variables`` is JSON, the others are text.
_TEXTS = ("address", "address_key", "name", "type", "user_ref")
_VARIABLES = len(_TEXTS)
_COLUMNS = (*_TEXTS, "variables")

#: Characters of JSON in one statement. PostgreSQL takes 256 MB, SQLite 1 GB, and both keep it in
#: memory several times over; larger statements are not faster.
_MAX_JSON_CHARACTERS = 8 * 1024 * 1024

#: How many recipients are encoded before the size is checked again.
_ENCODED_AT_A_TIME = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSlot:
    """Where the recipients of one message wait in the queue.

    Attributes:
        message_id: The message.
        lane: The lane they wait in.
        scheduled_at: The earliest time to send; None means now.
        at: When they were enqueued, for ``updated_at``.
    """

    message_id: int
    lane: Lane
    scheduled_at: datetime | None
    at: datetime


def insert_and_queue(
    connection: Connection,
    tables: Tables,
    recipients: Sequence[ResolvedRecipient],
    slot: QueueSlot,
    *,
    notify: bool,
) -> None:
    """Insert recipients and queue them, in two statements, or in one on PostgreSQL.

    More statements if there is much to write; see `_json_parts`. The message must be new.
    Recipients are due now, or at ``scheduled_at``, by the database's clock.

    Args:
        connection: A connection in the caller's transaction.
        tables: The outbox's tables.
        recipients: The new recipients, each address once.
        slot: Message, lane and times.
        notify: Wake workers on commit, by PostgreSQL's NOTIFY.
    """
    if connection.dialect.name == "postgresql":
        statement = _insert_and_queue(tables, connection.dialect, notify)
        for part in _json_parts(recipients):
            values = _slot_values(slot) | {"recipients": part, "slot_at": slot.at}
            connection.execute(statement, values)
    else:
        insert_new(connection, tables, recipients, slot)
        queue_all(connection, tables, slot, notify=notify)


def insert_new(
    connection: Connection, tables: Tables, recipients: Sequence[ResolvedRecipient], slot: QueueSlot
) -> None:
    """Insert the recipients that the message does not have yet; queue none of them.

    Args:
        connection: A connection in the caller's transaction.
        tables: The outbox's tables.
        recipients: Who to insert.
        slot: The message, and the time for ``updated_at``.
    """
    values = {"slot_message_id": slot.message_id, "slot_at": slot.at}
    insertion = _insert_new(tables, connection.dialect)
    for part in _json_parts(recipients):
        connection.execute(insertion, values | {"recipients": part})


def queue_all(connection: Connection, tables: Tables, slot: QueueSlot, *, notify: bool) -> int:
    """Queue every recipient of the message, none of which is queued yet; return how many.

    Args:
        connection: A connection in the caller's transaction.
        tables: The outbox's tables.
        slot: Message, lane and times.
        notify: Wake workers on commit, by PostgreSQL's NOTIFY.
    """
    queued = connection.execute(
        _queue_inserted(tables, connection.dialect),
        _slot_values(slot),
        execution_options={"preserve_rowcount": True},
    )
    if notify and connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(CHANNEL, "")))
    return queued.rowcount


def _slot_values(slot: QueueSlot) -> dict[str, Any]:
    return {
        "slot_message_id": slot.message_id,
        "slot_lane": slot.lane.rank,
        "slot_scheduled_at": slot.scheduled_at.timestamp() if slot.scheduled_at else 0.0,
    }


def _json_parts(recipients: Sequence[ResolvedRecipient]) -> Iterator[str]:
    """Yield recipients as JSON arrays, each small enough for one statement; usually there is one.

    They are encoded a few at a time, so that they are never in memory all at once.
    """
    part: list[str] = []
    size = 0
    for batch in batched(recipients, _ENCODED_AT_A_TIME):
        written = json.dumps(_packed_rows(batch))
        if part and size + len(written) > _MAX_JSON_CHARACTERS:
            yield f"[{','.join(part)}]"
            part, size = [], 0
        part.append(written[1:-1])
        size += len(written)
    if part:
        yield f"[{','.join(part)}]"


def _packed_rows(recipients: Sequence[ResolvedRecipient]) -> list[tuple[Any, ...]]:
    return [
        (
            one.address.addr_spec,
            one.dedup_key,
            one.address.name,
            one.type.value,
            one.user_ref,
            loaded(one.variables),
        )
        for one in recipients
    ]


@lru_cache(maxsize=32)
def _insert_and_queue(tables: Tables, dialect: Dialect, notify: bool) -> Select[Any]:
    """Return PostgreSQL's one statement: one round trip less."""
    inserted = _insert(tables, dialect).returning(tables.recipient.c.id).cte("inserted")
    queued = _queue(tables, dialect, inserted).cte("queued")
    done = func.pg_notify(CHANNEL, "") if notify else null()
    return select(done).add_cte(queued)


@lru_cache(maxsize=32)
def _queue_inserted(tables: Tables, dialect: Dialect) -> Insert:
    recipient = tables.recipient.c
    inserted = select(recipient.id).where(recipient.message_id == bindparam("slot_message_id"))
    return _queue(tables, dialect, inserted.subquery())


@lru_cache(maxsize=32)
def _insert_new(tables: Tables, dialect: Dialect) -> Insert:
    return _insert(tables, dialect).on_conflict_do_nothing()


def _insert(tables: Tables, dialect: Dialect) -> Upsert:
    is_postgresql = dialect.name == "postgresql"
    given, number = _values_on_postgresql() if is_postgresql else _values_on_sqlite()
    rows = select(
        *given,
        bindparam("slot_message_id", type_=tables.recipient.c.message_id.type),
        literal(RecipientState.QUEUED.value),
        bindparam("slot_at", type_=UtcDateTime()),
    ).order_by(number)  # To and Cc are listed by ascending id
    return upsert_on(dialect, tables.recipient).from_select(
        [*_COLUMNS, "message_id", "state", "updated_at"], rows
    )


def _values_on_postgresql() -> tuple[list[ColumnElement[Any]], ColumnElement[int]]:
    given = (
        func.jsonb_array_elements(cast(bindparam("recipients", type_=Text()), JSONB))
        .table_valued(column("person", JSONB), with_ordinality="number")
        .render_derived(name="given")
    )
    person = given.c.person
    texts = [person[position].astext for position in range(len(_TEXTS))]
    return [
        *texts,
        func.nullif(person[_VARIABLES], literal_column("'null'::jsonb")),
    ], given.c.number


def _values_on_sqlite() -> tuple[list[ColumnElement[Any]], ColumnElement[int]]:
    given = func.json_each(bindparam("recipients", type_=Text())).table_valued("key", "value")
    positions = range(len(_COLUMNS))
    return [
        func.json_extract(given.c.value, f"$[{position}]") for position in positions
    ], given.c.key


def _queue(tables: Tables, dialect: Dialect, inserted: FromClause) -> Insert:
    now = select(clock_sql(dialect)).scalar_subquery()  # read once, not for each row
    scheduled_at: BindParameter[float] = bindparam("slot_scheduled_at", type_=Double())
    waiting = select(
        inserted.c.id,
        bindparam("slot_message_id", type_=tables.queue.c.message_id.type),
        bindparam("slot_lane", type_=SmallInteger()),
        case((scheduled_at > now, scheduled_at), else_=now),
    )
    return insert(tables.queue).from_select(
        ["recipient_id", "message_id", "lane", "due_at"], waiting
    )
