"""Recipients selected by queries: inserted by the database, without passing through Python.

Only rows that the database does not recognize as plain addresses come to Python. They are first
inserted like the others, under a key that no address has, and then replaced by what `Address` makes
of them. So one statement decides whom the query selects, whatever others commit meanwhile.
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

#: Begins the key of a row that still has to be checked: no address begins with a space.
_UNCHECKED = " "

#: How much of the address is in such a key. PostgreSQL's indexes take keys of up to 2,704 bytes.
_UNCHECKED_CHARACTERS = 600

_UNCHECKED_BATCH = 10_000

_MAX_NAMED = 20

#: A name in JSON, up to its colon.
_NAME = re.compile(r'"((?:[^"\\]|\\.)*)":')


def insert_from_queries(
    connection: Connection,
    tables: Tables,
    recipients: RecipientSet,
    slot: QueueSlot,
    *,
    notify: bool,
) -> int:
    """Insert and queue the explicit recipients, and everyone whom the queries select.

    Returns how many there are. If this raises, the caller has to undo what was written.

    Args:
        connection: A connection in the caller's transaction.
        tables: The outbox's tables.
        recipients: The queries, and the recipients given one by one.
        slot: Message, lane and times of the new rows.
        notify: Wake workers on commit, by PostgreSQL's NOTIFY.

    Raises:
        InvalidAddress: a query selects something that is not an address; one error for all of them.
        RecipientError: there are no recipients, or a variable that JSON cannot hold.
    """
    for number, query in enumerate(recipients.queries):
        insertion = _insertion(tables, query, connection.dialect, is_first=number == 0)
        values = {"slot_message_id": slot.message_id, "slot_at": slot.at}
        connection.execute(insertion, values)
        _replace_unchecked(connection, tables, slot)
    if recipients.unique:
        recipient_rows.insert_new(connection, tables, recipients.unique, slot)
    count = recipient_rows.queue_all(connection, tables, slot, notify=notify)
    if not count:
        raise RecipientError(
            "there must be at least one recipient, but the query given as to=… selects none"
        )
    return count


def _insertion(
    tables: Tables, query: RecipientQuery, dialect: Dialect, *, is_first: bool
) -> Upsert:
    """Return the INSERT of everyone, each address once.

    Rows are inserted in the order of their keys, so that indexes grow at their ends: twice as fast
    on SQLite. On PostgreSQL, DISTINCT ON also avoids a conflict check for each row.
    """
    found = query.rows(dialect)
    key = _key(found, dialect, has_variables=query.has_variables).label("address_key")
    rows = (
        select(
            key,
            found.c.address,
            found.c.name,
            found.c.variables,
            literal(RecipientType.TO.value, String()),
            bindparam("slot_message_id", type_=tables.recipient.c.message_id.type),
            literal(RecipientState.QUEUED.value, String()),
            bindparam("slot_at", type_=UtcDateTime()),
        )
        .prefix_with("DISTINCT ON (address_key)", dialect="postgresql")
        .order_by(key)
    )
    columns = ["address_key", "address", "name", "variables", "type", "message_id", "state"]
    insertion = upsert_on(dialect, tables.recipient).from_select([*columns, "updated_at"], rows)
    is_distinct = is_first and dialect.name == "postgresql"
    return insertion if is_distinct else insertion.on_conflict_do_nothing()


def _key(rows: CTE, dialect: Dialect, *, has_variables: bool) -> ColumnElement[str]:
    address, folded, name = rows.c.address, rows.c.key, rows.c.name
    is_checked = is_simple_address(address, folded, dialect) & is_header_safe(name, dialect)
    if has_variables and dialect.name == "sqlite":
        is_checked &= _is_json(rows.c.variables)
    unchecked = literal(_UNCHECKED, String()) + func.substr(address, 1, _UNCHECKED_CHARACTERS)
    key = case((is_checked, folded), else_=unchecked)
    return collate(key, "C") if dialect.name == "postgresql" else key


def _is_json(variables: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return whether Python can read the variables: SQLite writes infinity as ``Inf``.

    From 3.43 on it writes ``9.0e+999``: https://www.sqlite.org/json1.html
    """
    return and_(func.json_valid(variables) == 1, func.instr(variables, "e+999") == 0)


def _replace_unchecked(connection: Connection, tables: Tables, slot: QueueSlot) -> None:
    """Replace each row that the database did not recognize by what `Address` makes of it."""
    recipient = tables.recipient.c
    columns = (recipient.address, recipient.name, recipient.variables)
    unchecked = (
        select(recipient.id, *(stored(column, connection.dialect) for column in columns))
        .where(
            recipient.message_id == slot.message_id, recipient.address_key.like(f"{_UNCHECKED}%")
        )
        .limit(_UNCHECKED_BATCH)
    )
    invalid = _InvalidRows()
    while rows := connection.execute(unchecked).all():
        ids = [row.id for row in rows]
        connection.execute(delete(tables.recipient).where(recipient.id.in_(ids)))
        recipients = [one for row in rows if (one := _resolve(row, invalid))]
        recipient_rows.insert_new(connection, tables, recipients, slot)
    if invalid.count:
        raise InvalidAddress(str(invalid))
    if invalid.variables:
        raise RecipientError(
            "a template's variables cannot hold every number that a database has: "
            f"{'; '.join(invalid.variables[:_MAX_NAMED])}; leave such rows out of the query, or "
            "select another value for them"
        )


@dataclass(slots=True)
class _InvalidRows:
    """Rows that cannot be recipients: how many, and the first of them."""

    count: int = 0
    named: list[str] = field(default_factory=list)
    #: Variables that are not JSON: which one, and of which address.
    variables: list[str] = field(default_factory=list)

    def add(self, error: InvalidAddress, suffix: str = "") -> None:
        self.count += 1
        if self.count <= _MAX_NAMED:
            text = str(error)
            self.named.append((text.partition("got: ")[2] or text) + suffix)

    def __str__(self) -> str:
        return (
            "the query must select addresses like name@domain.example, "
            f"but selects {self.count:,} that are not: "
            f"{and_more(self.named, _MAX_NAMED, count=self.count)}"
        )


def _resolve(row: Any, invalid: _InvalidRows) -> ResolvedRecipient | None:
    name = text_of(row.name)
    try:
        address = Address(text_of(row.address))
    except InvalidAddress as error:
        invalid.add(error)
        return None
    try:
        address = address.with_name(name) if name else address
    except InvalidAddress as error:
        invalid.add(error, f" as the name of {address.addr_spec}")
        return None
    variables, wrong = _variables(text_or_none(row.variables))
    if wrong:
        invalid.variables.append(f"{wrong} of {address.addr_spec}")
        return None
    return ResolvedRecipient(
        address=address, dedup_key=address.dedup_key, type=RecipientType.TO, variables=variables
    )


def _variables(text: str | None) -> tuple[dict[str, Any] | None, str]:
    """Return the variables, and the first one that is invalid: its name and value."""
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
