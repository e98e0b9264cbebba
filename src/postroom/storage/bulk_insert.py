"""The recipients whom queries find: written by the database, without a row passing through here.

Only the rows that the database does not take for plain addresses come to Python. They are written
like the others, under a key that no address has, and replaced by what `Address` makes of them: so
one statement decides whom the query finds, whatever others commit meanwhile.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Dialect,
    String,
    and_,
    bindparam,
    case,
    collate,
    delete,
    func,
    literal,
    select,
)

from postroom.errors import InvalidAddress, RecipientError
from postroom.message.address import Address
from postroom.states import RecipientState, RecipientType
from postroom.storage import recipient_rows
from postroom.storage.recipient_query import RecipientQuery, is_header_safe, is_simple_address
from postroom.storage.recipient_rows import QueueSlot
from postroom.storage.recipients import RecipientSet, ResolvedRecipient
from postroom.storage.row_decoding import stored, text_of, text_or_none
from postroom.storage.tables import Tables, UtcDateTime
from postroom.storage.upsert import Upsert, upsert_on
from postroom.text import and_more

#: Begins the key of a row that is still to be looked at: no address begins with a space.
_UNCHECKED = " "

#: Of the address in such a key. An index of PostgreSQL takes keys of up to 2,704 bytes.
_UNCHECKED_CHARACTERS = 600

_UNCHECKED_BATCH = 10_000

_MOST_NAMED = 20


def insert_from_queries(
    connection: Connection, tables: Tables, people: RecipientSet, place: QueueSlot, *, notify: bool
) -> int:
    """Write and queue everyone whom the queries of ``people`` find, and the others.

    Returns how many. The caller undoes what was written where this raises.

    Raises:
        InvalidAddress: a query finds what is no address; one error for all of them.
        RecipientError: there is nobody.
    """
    for number, selection in enumerate(people.queries):
        insertion = _insertion(tables, selection, connection.dialect, is_first=number == 0)
        where = {"place_message_id": place.message_id, "place_at": place.at}
        connection.execute(insertion, where)
        _replace_unchecked(connection, tables, place)
    if people.unique:
        recipient_rows.insert_new(connection, tables, people.unique, place)
    count = recipient_rows.queue_all(connection, tables, place, notify=notify)
    if not count:
        raise RecipientError(
            "expected at least one recipient, got: none; the query given as to=… finds nobody"
        )
    return count


def _insertion(
    tables: Tables, selection: RecipientQuery, dialect: Dialect, *, is_first: bool
) -> Upsert:
    """Return the INSERT of everyone, each address once.

    In the order of the keys, so that indexes grow at their ends: twice as fast on SQLite. On
    PostgreSQL it also spares asking for each row whether it conflicts.
    """
    asked = selection.rows(dialect)
    key = _key(asked, dialect, has_variables=selection.has_variables).label("address_key")
    rows = (
        select(
            key,
            asked.c.address,
            asked.c.name,
            asked.c.variables,
            literal(RecipientType.TO.value, String()),
            bindparam("place_message_id", type_=tables.recipient.c.message_id.type),
            literal(RecipientState.QUEUED.value, String()),
            bindparam("place_at", type_=UtcDateTime()),
        )
        .prefix_with("DISTINCT ON (address_key)", dialect="postgresql")
        .order_by(key)
    )
    columns = ["address_key", "address", "name", "variables", "type", "message_id", "state"]
    insertion = upsert_on(dialect, tables.recipient).from_select([*columns, "updated_at"], rows)
    is_distinct = is_first and dialect.name == "postgresql"
    return insertion if is_distinct else insertion.on_conflict_do_nothing()


def _key(asked: CTE, dialect: Dialect, *, has_variables: bool) -> ColumnElement[str]:
    address, folded, name = asked.c.address, asked.c.key, asked.c.name
    is_fit = is_simple_address(address, folded, dialect) & is_header_safe(name, dialect)
    if has_variables and dialect.name == "sqlite":
        is_fit &= _is_json(asked.c.variables)
    odd = literal(_UNCHECKED, String()) + func.substr(address, 1, _UNCHECKED_CHARACTERS)
    key = case((is_fit, folded), else_=odd)
    return collate(key, "C") if dialect.name == "postgresql" else key


def _is_json(variables: ColumnElement[Any]) -> ColumnElement[bool]:
    """Tell whether Python reads what SQLite has made of the columns: infinity it writes as ``Inf``.

    From 3.43 on as ``9.0e+999``: https://www.sqlite.org/json1.html
    """
    return and_(func.json_valid(variables) == 1, func.instr(variables, "e+999") == 0)


def _replace_unchecked(connection: Connection, tables: Tables, place: QueueSlot) -> None:
    """Put an `Address` in the place of each row that the database did not take for one."""
    recipient = tables.recipient.c
    shown = (recipient.address, recipient.name, recipient.variables)
    odd = (
        select(recipient.id, *(stored(column, connection.dialect) for column in shown))
        .where(
            recipient.message_id == place.message_id, recipient.address_key.like(f"{_UNCHECKED}%")
        )
        .limit(_UNCHECKED_BATCH)
    )
    refused = _InvalidRows()
    while rows := connection.execute(odd).all():
        ids = [row.id for row in rows]
        connection.execute(delete(tables.recipient).where(recipient.id.in_(ids)))
        people = [one for row in rows if (one := _addressee(row, refused))]
        recipient_rows.insert_new(connection, tables, people, place)
    if refused.count:
        raise InvalidAddress(str(refused))
    if refused.variables:
        raise RecipientError(
            "a template cannot be given every number that a database has: "
            f"{'; '.join(refused.variables[:_MOST_NAMED])}; leave such rows out of the query, or "
            "put another value in their place"
        )


@dataclass(slots=True)
class _InvalidRows:
    """What is no address: how many, and the first of them."""

    count: int = 0
    named: list[str] = field(default_factory=list)
    #: Whose variables are no JSON: the address, and which one it is.
    variables: list[str] = field(default_factory=list)

    def add(self, error: InvalidAddress, suffix: str = "") -> None:
        self.count += 1
        if self.count <= _MOST_NAMED:
            self.named.append(str(error).partition("got: ")[2] + suffix)

    def __str__(self) -> str:
        return (
            "expected the query to find addresses like name@domain.example, "
            f"got {self.count:,} that are not: "
            f"{and_more(self.named, _MOST_NAMED, count=self.count)}"
        )


def _addressee(row: Any, refused: _InvalidRows) -> ResolvedRecipient | None:
    name = text_of(row.name)
    try:
        address = Address(text_of(row.address))
    except InvalidAddress as error:
        refused.add(error)
        return None
    try:
        address = address.with_name(name) if name else address
    except InvalidAddress as error:
        refused.add(error, f" as the name of {address.addr_spec}")
        return None
    variables, odd = _variables(text_or_none(row.variables))
    if odd:
        refused.variables.append(f"{odd} of {address.addr_spec}")
        return None
    return ResolvedRecipient(
        address=address, dedup_key=address.dedup_key, type=RecipientType.TO, variables=variables
    )


#: A name in JSON, up to its colon.
_NAME = re.compile(r'"((?:[^"\\]|\\.)*)":')


def _variables(text: str | None) -> tuple[dict[str, Any] | None, str]:
    """Return variables, and which of them is none: its name and what stands there."""
    if text is None:
        return None, ""
    try:
        found: dict[str, Any] | None = json.loads(text)
    except ValueError as error:
        at = getattr(error, "pos", len(text))
        names = _NAME.findall(text[:at])
        return None, f"{names[-1] if names else 'variables'} ({text[at : at + 20].strip('{}')})"
    for name, value in (found or {}).items():
        if isinstance(value, float) and not math.isfinite(value):
            return None, f"{name} ({value})"
    return found, ""
