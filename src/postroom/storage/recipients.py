"""The rows of a message's recipients, and their places in the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    Integer,
    Select,
    SmallInteger,
    Text,
    bindparam,
    case,
    column,
    func,
    insert,
    literal,
    null,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from postroom.storage.addressees import Addressee
from postroom.storage.engine import clock_sql
from postroom.storage.models import Tables, Utc
from postroom.values.states import Lane, RecipientState

#: The channel of PostgreSQL's NOTIFY: a hint without content, which may be lost.
CHANNEL = "postroom"

_GIVEN: Mapping[str, type[TypeEngine[Any]]] = {
    "address": Text,
    "address_key": Text,
    "name": Text,
    "kind": Text,
    "user_ref": Text,
    "variables": JSONB,
}


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
        parameters = {"people": _as_json(people)} | _common(place)
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


def _as_json(people: Sequence[Addressee]) -> list[dict[str, Any]]:
    return [
        {
            "number": number,
            "address": one.address.addr_spec,
            "address_key": one.key,
            "name": one.address.name,
            "kind": one.kind.value,
            "user_ref": one.user_ref,
            "variables": one.variables,
        }
        for number, one in enumerate(people)
    ]


@lru_cache(maxsize=32)
def _queue_on_sqlite(tables: Tables, dialect: Dialect) -> Insert:
    added = select(tables.recipient.c.id).where(
        tables.recipient.c.message_id == bindparam("place_message_id")
    )
    return _queue(tables, dialect, added.subquery())


@lru_cache(maxsize=32)
def _add_on_postgresql(tables: Tables, dialect: Dialect, notify: bool) -> Select[Any]:
    """One statement for a round trip less; one value, because each costs the driver time."""
    added = (
        insert(tables.recipient)
        .from_select([*_GIVEN, "message_id", "state", "updated_at"], _given(tables))
        .returning(tables.recipient.c.id)
        .cte("added")
    )
    queued = _queue(tables, dialect, added).cte("queued")
    done = func.pg_notify(CHANNEL, "") if notify else null()
    return select(done).add_cte(queued)


def _given(tables: Tables) -> Select[Any]:
    """Return what `_as_json` holds as rows, in order: To and Cc are written by ascending id."""
    people = func.jsonb_to_recordset(bindparam("people", type_=JSONB()))
    given = people.table_valued(
        column("number", Integer), *(column(name, kind) for name, kind in _GIVEN.items())
    ).render_derived(name="given", with_types=True)
    return select(
        *(given.c[name] for name in _GIVEN),
        bindparam("place_message_id", type_=tables.recipient.c.message_id.type),
        literal(RecipientState.QUEUED.value),
        bindparam("place_at", type_=Utc()),
    ).order_by(given.c.number)


def _queue(tables: Tables, dialect: Dialect, added: FromClause) -> Insert:
    now = select(clock_sql(dialect)).scalar_subquery()  # read once, not for each row
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
