"""The rows of a message's recipients, and their places in the queue."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BindParameter,
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
    null,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from postroom.storage.addressees import Addressee
from postroom.storage.engine import clock_sql
from postroom.storage.models import Tables, Utc
from postroom.values.states import Lane, RecipientState

#: The channel of PostgreSQL's NOTIFY: a hint without content, which may be lost.
CHANNEL = "postroom"

_TEXTS = ("address", "address_key", "name", "kind", "user_ref", "variables")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in the queue the recipients of one message wait."""

    message_id: int
    lane: Lane
    not_before: datetime | None
    at: datetime


def add(
    connection: Connection,
    tables: Tables,
    people: Sequence[Addressee],
    place: Place,
    *,
    notify: bool,
) -> None:
    """Insert ``people`` and queue them, in two statements, or in one on PostgreSQL.

    They are due now, or at ``not_before``, by the database's clock. On PostgreSQL, ``notify``
    wakes the workers when the transaction commits.
    """
    if connection.dialect.name == "postgresql":
        parameters = _as_arrays(people) | _common(place)
        connection.execute(_add_on_postgresql(tables, connection.dialect, notify), parameters)
        return
    connection.execute(insert(tables.recipient), _as_rows(people, place))
    connection.execute(_queue_on_sqlite(tables, connection.dialect), _common(place))


def _common(place: Place) -> dict[str, Any]:
    return {
        "place_message_id": place.message_id,
        "place_lane": place.lane.rank,
        "place_not_before": place.not_before.timestamp() if place.not_before else 0.0,
        "place_at": place.at,
    }


def _as_rows(people: Sequence[Addressee], place: Place) -> list[dict[str, Any]]:
    return [
        {
            "message_id": place.message_id,
            "address": one.address.addr_spec,
            "address_key": one.key,
            "name": one.address.name,
            "kind": one.kind.value,
            "user_ref": one.user_ref,
            "variables": one.variables,
            "state": RecipientState.QUEUED.value,
            "updated_at": place.at,
        }
        for one in people
    ]


def _as_arrays(people: Sequence[Addressee]) -> dict[str, list[str | None]]:
    return {
        "address": [one.address.addr_spec for one in people],
        "address_key": [one.key for one in people],
        "name": [one.address.name for one in people],
        "kind": [one.kind.value for one in people],
        "user_ref": [one.user_ref for one in people],
        "variables": [
            None if one.variables is None else json.dumps(one.variables) for one in people
        ],
    }


@lru_cache(maxsize=32)
def _queue_on_sqlite(tables: Tables, dialect: Dialect) -> Insert:
    added = select(tables.recipient.c.id).where(
        tables.recipient.c.message_id == bindparam("place_message_id")
    )
    return _queue(tables, dialect, added.subquery())


@lru_cache(maxsize=32)
def _add_on_postgresql(tables: Tables, dialect: Dialect, notify: bool) -> Select[Any]:
    """One statement for a round trip less; arrays, because each row costs the driver time."""
    added = (
        insert(tables.recipient)
        .from_select([*_TEXTS, "message_id", "state", "updated_at"], _given(tables))
        .returning(tables.recipient.c.id)
        .cte("added")
    )
    queued = _queue(tables, dialect, added).cte("queued")
    done = func.pg_notify(CHANNEL, "") if notify else null()
    return select(done).add_cte(queued)


def _given(tables: Tables) -> Select[Any]:
    """Return the arrays as rows, in their order: To and Cc are written in the order of ids."""
    arrays = [bindparam(name, type_=ARRAY(Text)) for name in _TEXTS]
    given = (
        func.unnest(*arrays)
        .table_valued(*(column(name, Text) for name in _TEXTS), with_ordinality="number")
        .render_derived(name="given")
    )
    return select(
        *(given.c[name] for name in _TEXTS if name != "variables"),
        cast(given.c.variables, JSONB),
        bindparam("place_message_id", type_=tables.recipient.c.message_id.type),
        literal(RecipientState.QUEUED.value),
        bindparam("place_at", type_=Utc()),
    ).order_by(given.c.number)


def _queue(tables: Tables, dialect: Dialect, added: FromClause) -> Insert:
    now = clock_sql(dialect)
    not_before: BindParameter[float] = bindparam("place_not_before", type_=Double())
    waiting = select(
        added.c.id,
        bindparam("place_message_id", type_=tables.queue.c.message_id.type),
        bindparam("place_lane", type_=SmallInteger()),
        case((not_before > now, not_before), else_=now),
    )
    return insert(tables.queue).from_select(
        ["recipient_id", "message_id", "lane", "due_at"], waiting
    )
