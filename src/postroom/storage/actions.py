"""Actions on stored mail: cancel, retry, resolve, suppress and unsuppress.

Every function works in the caller's transaction and commits nothing. Workers keep running: each
change is conditional on no worker holding the recipient, and none waits for a worker that does.
Rows of the queue are locked before recipients, and recipients by ascending id. A worker that
records an outcome long after its lease expired locks in the same order, so the two cannot deadlock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Dialect, and_, case, delete, literal, or_, select, update

from postroom.batching import batched
from postroom.message.address import Address
from postroom.message.validation import one_line_texts, parse_address, parse_addresses
from postroom.states import Lane, OnDoubt, RecipientState
from postroom.storage.engine import (
    MAX_BOUND_VALUES,
    SessionOrConnection,
    clock_sql,
    dialect_of,
    now_sql,
)
from postroom.storage.queries.messages import unknown
from postroom.storage.queue.conditions import is_busy, is_due, is_queued, is_unclaimed
from postroom.storage.row_decoding import UnreadableDate, date_of, member_of, stored, text_of
from postroom.storage.sessions import connection_of
from postroom.storage.tables import Tables
from postroom.storage.upsert import Upsert, upsert

_S = RecipientState

#: States that `cancel` can end: the mail waits for a worker.
_CANCELLABLE = (_S.QUEUED, _S.DEFERRED, _S.IN_DOUBT)

#: States from which mail is sent again only if somebody asks for it.
_RETRYABLE = (_S.REJECTED, _S.EXPIRED, _S.CANCELLED, _S.SUPPRESSED, _S.IN_DOUBT)

#: States from which mail is sent without being asked for, but later.
_WAITING = (_S.QUEUED, _S.DEFERRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelResult:
    """What `cancel` achieved.

    Recipients that had ended another way before, such as rejected ones, are in neither.

    Attributes:
        cancelled: Addresses that will get no mail because of this call.
        too_late: Addresses that were accepted, are being sent, or are in doubt and held.
    """

    cancelled: tuple[str, ...]
    too_late: tuple[str, ...]


def cancel(executor: SessionOrConnection, tables: Tables, message_id: int) -> CancelResult:
    """Cancel message ``message_id`` for every recipient that no worker holds.

    With ``on_doubt="hold"``, a held recipient is cancelled too while its worker has not committed
    its intent to send. A worker whose lease expired long ago may still be sending: then
    ``accepted`` wins.

    Args:
        executor: Session or connection, in the caller's transaction.
        tables: The outbox's tables.
        message_id: The message.

    Raises:
        UnknownMessage: there is no such message.
    """
    message = _lock_message(executor, tables, message_id)
    may_go = is_unclaimed(tables, dialect_of(executor))
    if text_of(message.on_doubt) == OnDoubt.HOLD:
        may_go = tables.queue.c.send_intent.is_(False)
    waiting = and_(tables.queue.c.message_id == message_id, may_go)
    cancelled: dict[int, str] = {}
    for ids in batched(remove_waiting(executor, tables, waiting), MAX_BOUND_VALUES):
        stopped = and_(tables.recipient.c.id.in_(ids), _in_state(tables, _CANCELLABLE))
        cancelled |= _set_state(executor, tables, stopped, _S.CANCELLED)
    return CancelResult(
        cancelled=_in_order(cancelled), too_late=_too_late(executor, tables, message_id)
    )


def retry(
    executor: SessionOrConnection,
    tables: Tables,
    message_id: int,
    addresses: Iterable[str | Address] | None = None,
) -> tuple[str, ...]:
    """Send message ``message_id`` again to recipients that failed, or send it sooner.

    Recipients that are rejected, expired, cancelled, suppressed or in doubt are queued again, with
    a new retry schedule. Deferred recipients become due now (or at ``scheduled_at``). Accepted
    recipients, and those a worker holds, are left alone. The original cause still applies: a
    suppressed address is suppressed again, and an expired message expires again.

    Args:
        executor: Session or connection, in the caller's transaction.
        tables: The outbox's tables.
        message_id: The message.
        addresses: Only these recipients; None means all.

    Returns the addresses that are due because of this call.

    Raises:
        UnknownMessage: there is no such message.
        InvalidAddress: one error that names every wrong address.
    """
    message = _lock_message(executor, tables, message_id)
    dialect = dialect_of(executor)
    recipient = tables.recipient.c
    waits = and_(_in_state(tables, _WAITING), ~is_due(tables, dialect))
    wanted = and_(
        _recipients_of(tables, message_id, addresses), or_(_in_state(tables, _RETRYABLE), waits)
    )
    failed: dict[int, str] = {}
    deferred: dict[int, str] = {}
    for ids in batched(_hold_unclaimed(executor, tables, wanted), MAX_BOUND_VALUES):
        stopped = and_(recipient.id.in_(ids), _in_state(tables, _RETRYABLE))
        failed |= _set_state(executor, tables, stopped, _S.QUEUED)
        waiting = select(recipient.id, stored(recipient.address, dialect))
        waiting = waiting.where(recipient.id.in_(ids), waits)
        deferred |= {row.id: text_of(row.address) for row in executor.execute(waiting)}
    changed = make_due(executor, tables, message, deferred)
    return _in_order(failed | {id: deferred[id] for id in changed})


def resolve(
    executor: SessionOrConnection,
    tables: Tables,
    message_id: int,
    *,
    sent: bool,
    addresses: Iterable[str | Address] | None = None,
) -> tuple[str, ...]:
    """Settle the recipients of message ``message_id`` that are in doubt.

    A recipient that a worker is sending to again is left alone.

    Args:
        executor: Session or connection, in the caller's transaction.
        tables: The outbox's tables.
        message_id: The message.
        sent: True if the relay has the mail: the recipients become ``accepted``. False queues them
            again, due at once.
        addresses: Only these recipients; None means all.

    Returns the addresses that were resolved.

    Raises:
        UnknownMessage: there is no such message.
        InvalidAddress: one error that names every wrong address.
    """
    message = _lock_message(executor, tables, message_id)
    wanted = and_(_recipients_of(tables, message_id, addresses), _in_state(tables, (_S.IN_DOUBT,)))
    if sent:
        remove_waiting(executor, tables, unclaimed_of(tables, wanted, dialect_of(executor)))
        resolved = {
            "reply_code": None,
            "enhanced_status": None,
            "fault": None,
            "reply": "resolved as sent",
        }
        wanted = and_(wanted, ~is_queued(tables))
        return _in_order(_set_state(executor, tables, wanted, _S.ACCEPTED, **resolved))
    requeued: dict[int, str] = {}
    for ids in batched(_hold_unclaimed(executor, tables, wanted), MAX_BOUND_VALUES):
        undecided = and_(tables.recipient.c.id.in_(ids), wanted)
        requeued |= _set_state(executor, tables, undecided, _S.QUEUED)
    make_due(executor, tables, message, requeued)
    return _in_order(requeued)


def suppress(
    executor: SessionOrConnection, tables: Tables, address: str | Address, reason: str
) -> None:
    """Send nothing to ``address`` any more; mail that waits for it ends as ``suppressed``.

    Every spelling of the address counts. A second reason replaces the first.

    Args:
        executor: Session or connection, in the caller's transaction.
        tables: The outbox's tables.
        address: The address, with or without a name.
        reason: Why, as one line of text.

    Raises:
        InvalidAddress: ``address`` is not an address.
        MessageError: ``reason`` is empty or has control characters.
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
    """Allow mail to ``address`` again; return whether it was suppressed.

    Mail that ended as ``suppressed`` stays that way: see `retry`.

    Args:
        executor: Session or connection, in the caller's transaction.
        tables: The outbox's tables.
        address: The address, with or without a name.

    Raises:
        InvalidAddress: ``address`` is not an address.
    """
    suppression = tables.suppression
    key = parse_address(address).dedup_key
    removed = delete(suppression).where(suppression.c.address_key == key)
    found = executor.execute(removed.returning(suppression.c.address_key))
    return found.first() is not None


def _lock_message(executor: SessionOrConnection, tables: Tables, message_id: int) -> Any:
    """Return what actions need of a message, and lock it against `prune` until we commit."""
    connection_of(executor)
    message = tables.message
    dialect = dialect_of(executor)
    columns = (message.c.id, message.c.lane, message.c.on_doubt, message.c.scheduled_at)
    wanted = [stored(column, dialect) for column in columns]
    if dialect.name == "sqlite":
        # An UPDATE that changes nothing, to take the write lock first: a transaction that has
        # already read cannot wait for it.
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


def _hold_unclaimed(
    executor: SessionOrConnection, tables: Tables, wanted: ColumnElement[bool]
) -> list[int]:
    """Return the ``wanted`` recipients that no worker holds, nor can claim until we commit."""
    recipient = tables.recipient.c
    free = select(recipient.id).where(wanted, ~is_busy(tables, dialect_of(executor)))
    return hold(executor, tables, executor.execute(free).scalars().all())


def _recipients_of(
    tables: Tables, message_id: int, addresses: Iterable[str | Address] | None
) -> ColumnElement[bool]:
    recipient = tables.recipient.c
    if addresses is None:
        return recipient.message_id == message_id
    keys = {one.dedup_key for one in parse_addresses(addresses, "addresses")}
    return and_(recipient.message_id == message_id, recipient.address_key.in_(sorted(keys)))


def _in_state(tables: Tables, states: Iterable[RecipientState]) -> ColumnElement[bool]:
    return tables.recipient.c.state.in_([state.value for state in states])


def _set_state(
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


def unclaimed_of(
    tables: Tables, recipients: ColumnElement[bool], dialect: Dialect
) -> ColumnElement[bool]:
    """Return a condition on rows of the queue: one of ``recipients``, and unclaimed."""
    queue, recipient = tables.queue.c, tables.recipient.c
    matching = select(recipient.id).where(recipient.id == queue.recipient_id, recipients)
    return and_(matching.exists(), is_unclaimed(tables, dialect))


def remove_waiting(
    executor: SessionOrConnection, tables: Tables, condition: ColumnElement[bool]
) -> Sequence[int]:
    """Delete the rows of the queue that match, except rows being claimed now; return recipient ids.

    The rows are locked first and then deleted by id: the planner's statistics about the queue are
    too often out of date for a good join.

    Args:
        executor: Session or connection, in the caller's transaction.
        tables: The outbox's tables.
        condition: A condition on rows of the queue.
    """
    queue = tables.queue.c
    unlocked = select(queue.recipient_id).where(condition).order_by(queue.recipient_id)
    ids = executor.execute(unlocked.with_for_update(skip_locked=True)).scalars().all()
    for batch in batched(ids, MAX_BOUND_VALUES):
        executor.execute(delete(tables.queue).where(queue.recipient_id.in_(batch)))
    return ids


def hold(executor: SessionOrConnection, tables: Tables, recipients: Collection[int]) -> list[int]:
    """Keep workers off recipients until the transaction ends; return the unclaimed ones.

    An unclaimed recipient is in no queue, or no worker holds it. A recipient whose outcome is being
    written right now is skipped, not waited for: its worker may wait for a lock of this
    transaction.

    Args:
        executor: Session or connection, in the caller's transaction.
        tables: The outbox's tables.
        recipients: Ids of recipients.
    """
    queue = tables.queue.c
    unclaimed: list[int] = []
    for ids in batched(sorted(recipients), MAX_BOUND_VALUES):
        rows = select(queue.recipient_id).where(queue.recipient_id.in_(ids))
        queued = set(executor.execute(rows).scalars())
        free = rows.where(is_unclaimed(tables, dialect_of(executor)))
        free = free.order_by(queue.recipient_id).with_for_update(skip_locked=True)
        locked = set(executor.execute(free).scalars())
        unclaimed += [one for one in ids if one in locked or one not in queued]
    return unclaimed


def make_due(
    executor: SessionOrConnection, tables: Tables, message: Any, recipients: Collection[int]
) -> list[int]:
    """Make recipients due, queued or not; return the ids of those whose row changed.

    A recipient that a worker has claimed by now is left alone, and so is one that is due already.

    Args:
        executor: Session or connection, in the caller's transaction.
        tables: The outbox's tables.
        message: A row with ``lane`` and ``scheduled_at`` as `postroom.storage.row_decoding.stored`
            fetches them.
        recipients: Ids of recipients of that message.
    """
    clock = clock_sql(dialect_of(executor))
    scheduled_at = literal(_seconds(date_of(message.scheduled_at)))
    due_at = case((scheduled_at > clock, scheduled_at), else_=clock)
    known_lane = member_of(Lane, message.lane)
    lane = literal((known_lane if known_lane in list(Lane) else Lane.NORMAL).rank)
    columns = ["recipient_id", "message_id", "lane", "due_at"]
    changed: list[int] = []
    for ids in batched(sorted(recipients), MAX_BOUND_VALUES):
        recipient = tables.recipient.c
        rows = select(recipient.id, recipient.message_id, lane, due_at).where(recipient.id.in_(ids))
        insertion = upsert(executor, tables.queue).from_select(columns, rows.order_by(recipient.id))
        queued = executor.execute(_or_bring_forward(insertion, tables, executor))
        changed.extend(queued.scalars())
    return changed


def _seconds(scheduled_at: datetime | None) -> float:
    """Return the earliest due time; an unreadable date does not delay the mail."""
    if scheduled_at is None or isinstance(scheduled_at, UnreadableDate):
        return 0.0
    return scheduled_at.timestamp()


def _or_bring_forward(insertion: Upsert, tables: Tables, executor: SessionOrConnection) -> Any:
    queued, wanted = tables.queue.c, insertion.excluded
    values = {
        "lease_token": None,
        "claim_count": 0,
        "try_count": 0,
        "due_at": wanted.due_at,
        "lane": wanted.lane,
    }
    is_later = or_(queued.due_at > wanted.due_at, queued.lane != wanted.lane)
    return insertion.on_conflict_do_update(
        index_elements=["recipient_id"],
        set_=values,
        where=and_(is_unclaimed(tables, dialect_of(executor)), is_later),
    ).returning(tables.queue.c.recipient_id)
