"""What a person or the application decides about mail: cancel, requeue, resolve, suppress.

Every function works in the caller's transaction and commits nothing. Workers go on meanwhile:
each change is made on condition that no worker holds the recipient, and none waits for a worker
that does. Rows of the queue are locked before recipients, and recipients by ascending id, as a
worker locks them that records an outcome long after its lease: so neither waits in a circle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Dialect, and_, case, delete, literal, or_, select, update

from postroom.message.address import Address
from postroom.message.validation import one_line_texts, parse_address, parse_addresses
from postroom.states import Lane, OnDoubt, RecipientState
from postroom.storage.engine import SessionOrConnection, clock_sql, dialect_of, now_sql
from postroom.storage.queries.messages import unknown
from postroom.storage.queue.conditions import is_busy, is_due, is_queued, is_unclaimed
from postroom.storage.row_decoding import UnreadableDate, date_of, member_of, stored, text_of
from postroom.storage.sessions import connection_of
from postroom.storage.tables import Tables
from postroom.storage.upsert import Upsert, upsert

#: Bound values in one statement; SQLite and asyncpg stop at about 32,000.
_IDS_A_STATEMENT = 10_000


def unclaimed_of(
    tables: Tables, recipients: ColumnElement[bool], dialect: Dialect
) -> ColumnElement[bool]:
    """Return the condition on a row of the queue: one of ``recipients``, and free."""
    queue, recipient = tables.queue.c, tables.recipient.c
    of_these = select(recipient.id).where(recipient.id == queue.recipient_id, recipients)
    return and_(of_these.exists(), is_unclaimed(tables, dialect))


def remove_waiting(
    executor: SessionOrConnection, tables: Tables, condition: ColumnElement[bool]
) -> Sequence[int]:
    """Delete rows of the queue, but for those that are being claimed; return whose they were.

    They are locked first and then deleted by id: what the planner believes about the queue is
    too often out of date for it to join anything well.
    """
    queue = tables.queue.c
    unlocked = select(queue.recipient_id).where(condition).order_by(queue.recipient_id)
    ids = executor.execute(unlocked.with_for_update(skip_locked=True)).scalars().all()
    for some in chunked(ids):
        executor.execute(delete(tables.queue).where(queue.recipient_id.in_(some)))
    return ids


def hold(executor: SessionOrConnection, tables: Tables, recipients: Collection[int]) -> list[int]:
    """Keep workers off recipients until the transaction ends; return those that are free.

    Those are in no queue, or no worker holds them. One whose outcome is being written at this
    moment is not waited for: its worker may be waiting for what this transaction holds.
    """
    queue = tables.queue.c
    free: list[int] = []
    for ids in chunked(sorted(recipients)):
        of_these = select(queue.recipient_id).where(queue.recipient_id.in_(ids))
        queued = set(executor.execute(of_these).scalars())
        unheld = of_these.where(is_unclaimed(tables, dialect_of(executor)))
        unheld = unheld.order_by(queue.recipient_id).with_for_update(skip_locked=True)
        held = set(executor.execute(unheld).scalars())
        free += [one for one in ids if one in held or one not in queued]
    return free


def make_due(
    executor: SessionOrConnection, tables: Tables, message: Any, recipients: Collection[int]
) -> list[int]:
    """Make recipients due, whether or not they are in the queue; return those that were not.

    ``message`` has ``lane`` and ``scheduled_at`` as
    `postroom.storage.row_decoding.stored` fetches them.

    Left alone is one that a worker has claimed meanwhile, and one that is due already.
    """
    clock = clock_sql(dialect_of(executor))
    scheduled_at = literal(_seconds(date_of(message.scheduled_at)))
    due_at = case((scheduled_at > clock, scheduled_at), else_=clock)
    asked = member_of(Lane, message.lane)
    lane = literal((asked if asked in list(Lane) else Lane.NORMAL).rank)
    columns = ["recipient_id", "message_id", "lane", "due_at"]
    changed: list[int] = []
    for ids in chunked(sorted(recipients)):
        recipient = tables.recipient.c
        rows = select(recipient.id, recipient.message_id, lane, due_at).where(recipient.id.in_(ids))
        insertion = upsert(executor, tables.queue).from_select(columns, rows.order_by(recipient.id))
        queued = executor.execute(_or_bring_forward(insertion, tables, executor))
        changed.extend(queued.scalars())
    return changed


def _seconds(scheduled_at: datetime | None) -> float:
    """Return when it is due at the earliest; what is no date does not hold it up."""
    if scheduled_at is None or isinstance(scheduled_at, UnreadableDate):
        return 0.0
    return scheduled_at.timestamp()


def _or_bring_forward(insertion: Upsert, tables: Tables, executor: SessionOrConnection) -> Any:
    queued, asked = tables.queue.c, insertion.excluded
    anew = {
        "lease_token": None,
        "claim_count": 0,
        "try_count": 0,
        "due_at": asked.due_at,
        "lane": asked.lane,
    }
    is_later = or_(queued.due_at > asked.due_at, queued.lane != asked.lane)
    return insertion.on_conflict_do_update(
        index_elements=["recipient_id"],
        set_=anew,
        where=and_(is_unclaimed(tables, dialect_of(executor)), is_later),
    ).returning(tables.queue.c.recipient_id)


def chunked(ids: Iterable[int]) -> Iterator[tuple[int, ...]]:
    """Yield ``ids`` as many at a time as one statement takes."""
    left = iter(ids)
    while portion := tuple(islice(left, _IDS_A_STATEMENT)):
        yield portion


_S = RecipientState

#: What may still be stopped: it waits for a worker.
_OPEN = (_S.QUEUED, _S.DEFERRED, _S.IN_DOUBT)

#: What is sent again only because somebody asks for it.
_OVER = (_S.REJECTED, _S.EXPIRED, _S.CANCELLED, _S.SUPPRESSED, _S.IN_DOUBT)

#: What is sent by itself, and sooner where somebody asks for it.
_WAITING = (_S.QUEUED, _S.DEFERRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelResult:
    """What a cancellation did. Recipients that were final otherwise (rejected, say) are in neither.

    Attributes:
        cancelled: The addresses that get no mail now.
        too_late: The addresses whose mail is sent, being sent, or in doubt and held.
    """

    cancelled: tuple[str, ...]
    too_late: tuple[str, ...]


def cancel(executor: SessionOrConnection, tables: Tables, message_id: int) -> CancelResult:
    """Stop message ``message_id`` for everyone whose mail no worker holds.

    With ``on_doubt="hold"`` also for those whose worker has not committed its intent to send.
    A worker that lost its lease long ago may still be sending: then ``accepted`` wins.

    Raises:
        UnknownMessage: there is none.
    """
    message = _held_message(executor, tables, message_id)
    may_go = is_unclaimed(tables, dialect_of(executor))
    if text_of(message.on_doubt) == OnDoubt.HOLD:
        may_go = tables.queue.c.send_intent.is_(False)
    waiting = and_(tables.queue.c.message_id == message_id, may_go)
    cancelled: dict[int, str] = {}
    for ids in chunked(remove_waiting(executor, tables, waiting)):
        stopped = and_(tables.recipient.c.id.in_(ids), _in_state(tables, _OPEN))
        cancelled |= _restate(executor, tables, stopped, _S.CANCELLED)
    return CancelResult(
        cancelled=_in_order(cancelled), too_late=_too_late(executor, tables, message_id)
    )


def retry(
    executor: SessionOrConnection,
    tables: Tables,
    message_id: int,
    addresses: Iterable[str | Address] | None = None,
) -> tuple[str, ...]:
    """Let message ``message_id`` be sent again, to ``addresses`` alone where they are given.

    Recipients that were rejected, cancelled, suppressed or in doubt, or whose mail expired, are
    queued with their retry schedule begun anew; those that wait for a later try are due now (or
    at ``scheduled_at``). Those that a relay accepted, and those a worker holds, are left alone.
    What has not changed comes to the same end: an address that is still suppressed, a message
    that has expired. Returns the addresses of those who are due because of it.

    Raises:
        UnknownMessage: there is none.
        InvalidAddress: one error that names every address that is wrong.
    """
    message = _held_message(executor, tables, message_id)
    dialect = dialect_of(executor)
    recipient = tables.recipient.c
    waits = and_(_in_state(tables, _WAITING), ~is_due(tables, dialect))
    wanted = and_(_named(tables, message_id, addresses), or_(_in_state(tables, _OVER), waits))
    over: dict[int, str] = {}
    later: dict[int, str] = {}
    for ids in chunked(_held(executor, tables, wanted)):
        stopped = and_(recipient.id.in_(ids), _in_state(tables, _OVER))
        over |= _restate(executor, tables, stopped, _S.QUEUED)
        waiting = select(recipient.id, stored(recipient.address, dialect))
        waiting = waiting.where(recipient.id.in_(ids), waits)
        later |= {row.id: text_of(row.address) for row in executor.execute(waiting)}
    changed = make_due(executor, tables, message, later)
    return _in_order(over | {id: later[id] for id in changed})


def resolve(
    executor: SessionOrConnection,
    tables: Tables,
    message_id: int,
    *,
    sent: bool,
    addresses: Iterable[str | Address] | None = None,
) -> tuple[str, ...]:
    """Decide for the recipients in doubt of message ``message_id``, or those of ``addresses``.

    ``sent`` means that the relay has the mail: they are ``accepted``. Otherwise they are queued
    and due at once. One that a worker is sending again already is left alone. Returns the
    addresses that were decided for.

    Raises:
        UnknownMessage: there is none.
        InvalidAddress: one error that names every address that is wrong.
    """
    message = _held_message(executor, tables, message_id)
    wanted = and_(_named(tables, message_id, addresses), _in_state(tables, (_S.IN_DOUBT,)))
    if sent:
        remove_waiting(executor, tables, unclaimed_of(tables, wanted, dialect_of(executor)))
        resolved = {
            "reply_code": None,
            "enhanced_status": None,
            "fault": None,
            "reply": "resolved as sent",
        }
        wanted = and_(wanted, ~is_queued(tables))
        return _in_order(_restate(executor, tables, wanted, _S.ACCEPTED, **resolved))
    again: dict[int, str] = {}
    for ids in chunked(_held(executor, tables, wanted)):
        undecided = and_(tables.recipient.c.id.in_(ids), wanted)
        again |= _restate(executor, tables, undecided, _S.QUEUED)
    make_due(executor, tables, message, again)
    return _in_order(again)


def suppress(
    executor: SessionOrConnection, tables: Tables, address: str | Address, reason: str
) -> None:
    """Write to ``address`` no more, for ``reason``; what waits for it ends as ``suppressed``.

    Every spelling of the address counts. A second reason replaces the first.

    Raises:
        InvalidAddress: the address is none.
        MessageError: the reason is empty, or holds control characters.
    """
    (text,) = one_line_texts((reason,), "the reason")
    dialect = dialect_of(executor)
    row = {
        "address_key": parse_address(address).dedup_key,
        "reason": text,
        "created_at": now_sql(dialect),
    }
    statement = upsert(executor, tables.suppression).values(row)
    executor.execute(
        statement.on_conflict_do_update(
            index_elements=["address_key"], set_={"reason": statement.excluded.reason}
        )
    )


def unsuppress(executor: SessionOrConnection, tables: Tables, address: str | Address) -> bool:
    """Write to ``address`` again; return whether it was suppressed.

    Mail that ended as ``suppressed`` meanwhile stays as it is: see `requeue`.

    Raises:
        InvalidAddress: the address is none.
    """
    suppression = tables.suppression
    key = parse_address(address).dedup_key
    removed = delete(suppression).where(suppression.c.address_key == key)
    found = executor.execute(removed.returning(suppression.c.address_key))
    return found.first() is not None


def _held_message(executor: SessionOrConnection, tables: Tables, message_id: int) -> Any:
    """Return what decisions need of a message, which `prune` then leaves until we commit."""
    connection_of(executor)
    message = tables.message
    dialect = dialect_of(executor)
    columns = (message.c.id, message.c.lane, message.c.on_doubt, message.c.scheduled_at)
    wanted = [stored(column, dialect) for column in columns]
    if dialect.name == "sqlite":
        # Nothing changes, but the write lock is ours: a transaction that has read cannot wait.
        held = executor.execute(
            update(message)
            .where(message.c.id == message_id)
            .values(id=message_id)
            .returning(*wanted)
        )
    else:
        only = select(*wanted).where(message.c.id == message_id)
        held = executor.execute(only.with_for_update(read=True, key_share=True))
    row = held.one_or_none()
    if row is None:
        raise unknown(message_id)
    return row


def _held(executor: SessionOrConnection, tables: Tables, wanted: ColumnElement[bool]) -> list[int]:
    """Return the recipients of ``wanted`` that no worker holds, nor will until we commit."""
    recipient = tables.recipient.c
    free = select(recipient.id).where(wanted, ~is_busy(tables, dialect_of(executor)))
    return hold(executor, tables, executor.execute(free).scalars().all())


def _named(
    tables: Tables, message_id: int, addresses: Iterable[str | Address] | None
) -> ColumnElement[bool]:
    recipient = tables.recipient.c
    if addresses is None:
        return recipient.message_id == message_id
    keys = {one.dedup_key for one in parse_addresses(addresses, "addresses")}
    return and_(recipient.message_id == message_id, recipient.address_key.in_(sorted(keys)))


def _in_state(tables: Tables, states: Iterable[RecipientState]) -> ColumnElement[bool]:
    return tables.recipient.c.state.in_([state.value for state in states])


def _restate(
    executor: SessionOrConnection,
    tables: Tables,
    condition: ColumnElement[bool],
    state: RecipientState,
    **columns: Any,
) -> dict[int, str]:
    """Set the state of recipients; return their addresses by id."""
    recipient, dialect = tables.recipient, dialect_of(executor)
    now = now_sql(dialect)
    ids = select(recipient.c.id).where(condition).order_by(recipient.c.id)
    locked = ids.with_for_update(key_share=True).cte("locked")
    changed = executor.execute(
        update(recipient)
        .where(recipient.c.id.in_(select(locked.c.id)))
        .values(state=state.value, updated_at=now, **columns)
        .returning(recipient.c.id, stored(recipient.c.address, dialect))
    )
    return {row.id: text_of(row.address) for row in changed}


def _too_late(executor: SessionOrConnection, tables: Tables, message_id: int) -> tuple[str, ...]:
    recipient = tables.recipient.c
    late = select(recipient.id, stored(recipient.address, dialect_of(executor))).where(
        recipient.message_id == message_id,
        or_(_in_state(tables, (_S.ACCEPTED, _S.IN_DOUBT)), is_queued(tables)),
    )
    return _in_order({row.id: text_of(row.address) for row in executor.execute(late)})


def _in_order(addresses_by_id: dict[int, str]) -> tuple[str, ...]:
    return tuple(address for _, address in sorted(addresses_by_id.items()))
