"""What a person or the application decides about mail: cancel, requeue, resolve, suppress.

Every function works in the caller's transaction and commits nothing. Workers go on meanwhile:
each change is made on condition that no worker holds the recipient, and none waits for a worker
that does. Rows of the queue are locked before recipients, and recipients by ascending id, as a
worker locks them that records an outcome long after its lease: so neither waits in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, or_, select, update

from postroom.storage.callers import connection_of
from postroom.storage.engine import Executor, dialect_of, now_sql
from postroom.storage.leases import is_busy, is_due, is_free, is_queued
from postroom.storage.lenient import stored, text_of
from postroom.storage.models import Tables
from postroom.storage.queries.messages import unknown
from postroom.storage.queue import hold, portions, put_in, take_out, waits_again
from postroom.storage.upsert import upsert
from postroom.values.address import Address
from postroom.values.checks import address_of, addresses_of, texts_of
from postroom.values.states import OnDoubt, RecipientState

_S = RecipientState

#: What may still be stopped: it waits for a worker.
_OPEN = (_S.QUEUED, _S.DEFERRED, _S.IN_DOUBT)

#: What is sent again only because somebody asks for it.
_OVER = (_S.REJECTED, _S.EXPIRED, _S.CANCELLED, _S.SUPPRESSED, _S.IN_DOUBT)

#: What is sent by itself, and sooner where somebody asks for it.
_WAITING = (_S.QUEUED, _S.DEFERRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """Who gets no mail now, and for whom it was too late: sent, on the wire, or in doubt and held.

    Recipients that had ended otherwise before (rejected, say) are in neither.
    """

    cancelled: tuple[str, ...]
    too_late: tuple[str, ...]


def cancel(executor: Executor, tables: Tables, message_id: int) -> Cancellation:
    """Stop message ``message_id`` for everyone whose mail no worker holds.

    With ``on_doubt="hold"`` also for those whose worker has not committed its intent to send.
    A worker that lost its lease long ago may still be sending: then ``accepted`` wins.

    Raises:
        UnknownMessage: there is none.
    """
    message = _held_message(executor, tables, message_id)
    may_go = is_free(tables, dialect_of(executor))
    if text_of(message.on_doubt) == OnDoubt.HOLD:
        may_go = tables.queue.c.intent.is_(False)
    waiting = and_(tables.queue.c.message_id == message_id, may_go)
    cancelled: dict[int, str] = {}
    for ids in portions(take_out(executor, tables, waiting)):
        stopped = and_(tables.recipient.c.id.in_(ids), _in_state(tables, _OPEN))
        cancelled |= _restate(executor, tables, stopped, _S.CANCELLED)
    return Cancellation(
        cancelled=_in_order(cancelled), too_late=_too_late(executor, tables, message_id)
    )


def requeue(
    executor: Executor,
    tables: Tables,
    message_id: int,
    addresses: Iterable[str | Address] | None = None,
) -> tuple[str, ...]:
    """Let message ``message_id`` be sent again, to ``addresses`` alone where they are given.

    Recipients that were rejected, cancelled, suppressed or in doubt, or whose mail expired, are
    queued with their retry schedule begun anew; those that wait for a later try are due now (or
    at ``not_before``). Those that a relay accepted, and those a worker holds, are left alone.
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
    for ids in portions(_held(executor, tables, wanted)):
        stopped = and_(recipient.id.in_(ids), _in_state(tables, _OVER))
        over |= _restate(executor, tables, stopped, _S.QUEUED)
        waiting = select(recipient.id, stored(recipient.address, dialect))
        waiting = waiting.where(recipient.id.in_(ids), waits)
        later |= {row.id: text_of(row.address) for row in executor.execute(waiting)}
    changed = put_in(executor, tables, message, later)
    return _in_order(over | {id: later[id] for id in changed})


def resolve(
    executor: Executor,
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
        take_out(executor, tables, waits_again(tables, wanted, dialect_of(executor)))
        resolved = {"code": None, "enhanced_code": None, "fault": None, "reply": "resolved as sent"}
        wanted = and_(wanted, ~is_queued(tables))
        return _in_order(_restate(executor, tables, wanted, _S.ACCEPTED, **resolved))
    again: dict[int, str] = {}
    for ids in portions(_held(executor, tables, wanted)):
        undecided = and_(tables.recipient.c.id.in_(ids), wanted)
        again |= _restate(executor, tables, undecided, _S.QUEUED)
    put_in(executor, tables, message, again)
    return _in_order(again)


def suppress(executor: Executor, tables: Tables, address: str | Address, reason: str) -> None:
    """Write to ``address`` no more, for ``reason``; what waits for it ends as ``suppressed``.

    Every spelling of the address counts. A second reason replaces the first.

    Raises:
        InvalidAddress: the address is none.
        MessageError: the reason is empty, or holds control characters.
    """
    (text,) = texts_of((reason,), "the reason")
    dialect = dialect_of(executor)
    row = {"address_key": address_of(address).key, "reason": text, "created_at": now_sql(dialect)}
    statement = upsert(executor, tables.suppression).values(row)
    executor.execute(
        statement.on_conflict_do_update(
            index_elements=["address_key"], set_={"reason": statement.excluded.reason}
        )
    )


def unsuppress(executor: Executor, tables: Tables, address: str | Address) -> bool:
    """Write to ``address`` again; return whether it was suppressed.

    Mail that ended as ``suppressed`` meanwhile stays as it is: see `requeue`.

    Raises:
        InvalidAddress: the address is none.
    """
    suppression = tables.suppression
    key = address_of(address).key
    removed = delete(suppression).where(suppression.c.address_key == key)
    found = executor.execute(removed.returning(suppression.c.address_key))
    return found.first() is not None


def _held_message(executor: Executor, tables: Tables, message_id: int) -> Any:
    """Return what decisions need of a message, which `prune` then leaves until we commit."""
    connection_of(executor)
    message = tables.message
    dialect = dialect_of(executor)
    columns = (message.c.id, message.c.lane, message.c.on_doubt, message.c.not_before)
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


def _held(executor: Executor, tables: Tables, wanted: ColumnElement[bool]) -> list[int]:
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
    keys = {one.key for one in addresses_of(addresses, "addresses")}
    return and_(recipient.message_id == message_id, recipient.address_key.in_(sorted(keys)))


def _in_state(tables: Tables, states: Iterable[RecipientState]) -> ColumnElement[bool]:
    return tables.recipient.c.state.in_([state.value for state in states])


def _restate(
    executor: Executor,
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


def _too_late(executor: Executor, tables: Tables, message_id: int) -> tuple[str, ...]:
    recipient = tables.recipient.c
    late = select(recipient.id, stored(recipient.address, dialect_of(executor))).where(
        recipient.message_id == message_id,
        or_(_in_state(tables, (_S.ACCEPTED, _S.IN_DOUBT)), is_queued(tables)),
    )
    return _in_order({row.id: text_of(row.address) for row in executor.execute(late)})


def _in_order(addresses_by_id: dict[int, str]) -> tuple[str, ...]:
    return tuple(address for _, address in sorted(addresses_by_id.items()))
