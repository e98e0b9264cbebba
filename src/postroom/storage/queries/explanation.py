"""Why a mail has not gone, and when it will: a sentence for each recipient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select

from postroom.duration import human_duration
from postroom.states import Lane, OnDoubt, RecipientState
from postroom.storage.engine import SessionOrConnection, clock_sql, dialect_of
from postroom.storage.queries.messages import MessageStatus, RecipientStatus, status
from postroom.storage.queries.outbox_stats import workers
from postroom.storage.row_decoding import UnreadableDate, member_of, number_of, stored, text_or_none
from postroom.storage.tables import Tables

#: Without a heartbeat for so long, a worker is not counted on.
_WORKER_SILENT_S = 60.0

#: Nobody needs to know more exactly how long a line is, and counting takes time.
_LONGEST_LINE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why one recipient is where it is; ``next_at`` is None where nothing more will happen."""

    address: str
    state: RecipientState
    why: str
    next_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Situation:
    """All that is known about one recipient at one moment."""

    message: MessageStatus
    recipient: RecipientStatus
    on_doubt: OnDoubt
    now: datetime
    worker_seen_s: float | None
    #: How many are due before it in its lane.
    before: int
    try_count: int
    #: A worker has claimed it and neither recorded an outcome nor given it back.
    is_claimed: bool
    has_intent: bool
    suppression_reason: str | None

    @property
    def said(self) -> str:
        """What a relay, or a worker, said last, with its codes."""
        return self.recipient.reply or "no reply"

    @property
    def next_at(self) -> datetime:
        """When something happens by itself."""
        return max(self.recipient.due_at or self.now, self.now)


def explain(
    executor: SessionOrConnection, tables: Tables, message_id: int
) -> tuple[Explanation, ...]:
    """Say for each recipient of message ``message_id`` why it has not gone, and when it will.

    Raises:
        UnknownMessage: there is none.
    """
    message = status(executor, tables, message_id)
    now = _now(executor)
    seen = workers(executor, tables, now)
    places = _places(executor, tables, message_id)
    column = stored(tables.message.c.on_doubt, dialect_of(executor))
    on_doubt = select(column).where(tables.message.c.id == message_id)
    held = member_of(OnDoubt, executor.execute(on_doubt).scalar_one())
    before = _due_before(executor, tables, message, now)
    return tuple(
        _explanation(
            _Situation(
                message=message,
                recipient=one,
                on_doubt=held,
                now=now,
                worker_seen_s=seen[0].seen_s if seen else None,
                before=before,
                try_count=number_of(places[one.id].try_count) or 0,
                is_claimed=places[one.id].lease_token is not None,
                has_intent=bool(places[one.id].send_intent),
                suppression_reason=text_or_none(places[one.id].reason),
            )
        )
        for one in message.recipients
    )


def _now(executor: SessionOrConnection) -> datetime:
    clock = executor.execute(select(clock_sql(dialect_of(executor)))).scalar_one()
    return datetime.fromtimestamp(clock, UTC)


def _places(executor: SessionOrConnection, tables: Tables, message_id: int) -> dict[int, Any]:
    recipient, queue, suppression = tables.recipient, tables.queue, tables.suppression
    columns = (
        recipient.c.id,
        queue.c.lease_token,
        queue.c.try_count,
        queue.c.send_intent,
        suppression.c.reason,
    )
    wanted = (
        select(*(stored(column, dialect_of(executor)) for column in columns))
        .select_from(recipient)
        .outerjoin(queue, queue.c.recipient_id == recipient.c.id)
        .outerjoin(suppression, suppression.c.address_key == recipient.c.address_key)
        .where(recipient.c.message_id == message_id)
    )
    return {row.id: row for row in executor.execute(wanted)}


def _due_before(
    executor: SessionOrConnection, tables: Tables, message: MessageStatus, now: datetime
) -> int:
    """Count who is due before the first of the message's recipients, up to a bound."""
    is_due = any(one.due_at and one.due_at <= now for one in message.recipients)
    if not is_due or message.lane not in list(Lane):
        return 0
    queue = tables.queue.c
    first = select(func.min(queue.due_at)).where(queue.message_id == message.id).scalar_subquery()
    line = (
        select(queue.recipient_id)
        .where(queue.lane == message.lane.rank, queue.due_at < first)
        .limit(_LONGEST_LINE)
    )
    return int(executor.execute(select(func.count()).select_from(line.subquery())).scalar_one())


def _explanation(case: _Situation) -> Explanation:
    one = case.recipient
    if one.state in _ENDINGS:
        why, next_at = _ENDINGS[one.state](case), None
    elif one.state not in list(RecipientState):
        why, next_at = f"its state is {one.state.value!r}, which this version does not know", None
    elif isinstance(one.due_at, UnreadableDate):
        why, next_at = "it is due at no time that there is: a worker sets it aside", None
    elif one.state is RecipientState.SENDING:
        why, next_at = _sending(case), case.next_at
    elif one.due_at is None:
        why, next_at = _not_queued(case), None
    elif one.due_at > case.now:
        why, next_at = _waiting(case), case.next_at
    else:
        why, next_at = _due(case), case.next_at
    return Explanation(address=one.address, state=one.state, why=why, next_at=next_at)


def _accepted(case: _Situation) -> str:
    return f"the relay took it at {_formatted(case.recipient.updated_at)}: {case.said}"


def _rejected(case: _Situation) -> str:
    return f"refused for good at {_formatted(case.recipient.updated_at)}: {case.said}"


def _suppressed(case: _Situation) -> str:
    if case.suppression_reason is None:
        return "the address was on the suppression list; it is not any more: retry sends it"
    return f"the address is on the suppression list: {case.suppression_reason}"


def _cancelled(case: _Situation) -> str:
    return f"cancelled at {_formatted(case.recipient.updated_at)}"


def _expired(case: _Situation) -> str:
    limit = case.message.expires_at
    return f"it expired at {_formatted(limit)} before it was sent" if limit else "it expired unsent"


_ENDINGS: Mapping[RecipientState, Callable[[_Situation], str]] = {
    RecipientState.ACCEPTED: _accepted,
    RecipientState.REJECTED: _rejected,
    RecipientState.SUPPRESSED: _suppressed,
    RecipientState.CANCELLED: _cancelled,
    RecipientState.EXPIRED: _expired,
}


def _sending(case: _Situation) -> str:
    return f"a worker holds it, until {_formatted(case.next_at)} at the latest"


def _not_queued(case: _Situation) -> str:
    """Nothing in the queue: only a person or the application will change that."""
    if case.recipient.state is RecipientState.IN_DOUBT:
        return f"{_DOUBT}; it is held until somebody decides: resolve it as sent, or to be resent"
    return "it stands in no queue, which is a defect: retry puts it back"


_DOUBT = "the connection broke between the final dot and its reply: the relay may have the mail"


def _waiting(case: _Situation) -> str:
    state = case.recipient.state
    if state is RecipientState.IN_DOUBT:
        return (
            f"{_DOUBT}; it is sent again at {_formatted(case.next_at)} unless it is resolved before"
        )
    if state is RecipientState.DEFERRED:
        return f"{_put_off(case)}; the next try is at {_formatted(case.next_at)}{_expiry(case)}"
    scheduled_at = case.message.scheduled_at
    if scheduled_at is not None and scheduled_at > case.now:
        return f"scheduled for {_formatted(scheduled_at)}"
    return f"waits until {_formatted(case.next_at)}{_expiry(case)}"


def _put_off(case: _Situation) -> str:
    fault = case.recipient.fault
    whose = f" (the fault of: {fault.value})" if fault else ""
    return f"put off after {case.recipient.attempt_count} attempts{whose}: {case.said}"


def _expiry(case: _Situation) -> str:
    limit = case.message.expires_at
    if limit is None or limit > case.next_at:
        return ""
    return f", but it expires at {_formatted(limit)} before that"


def _due(case: _Situation) -> str:
    limit = case.message.expires_at
    if limit is not None and limit <= case.now:
        return f"it expired at {_formatted(limit)}, which the next worker records; {_worker(case)}"
    if case.is_claimed and case.has_intent:
        return (
            f"a worker ended while it sent it: the next one records it as in doubt; {_worker(case)}"
        )
    if case.is_claimed:
        return f"the worker that held it is gone: the next one takes it up; {_worker(case)}"
    return f"it is due; {_worker(case)}"


def _worker(case: _Situation) -> str:
    if case.worker_seen_s is None:
        return "no worker is there: start one (postroom worker)"
    if case.worker_seen_s > _WORKER_SILENT_S:
        return f"no worker has been seen for {human_duration(case.worker_seen_s)}: start one"
    if case.before:
        more = " or more" if case.before == _LONGEST_LINE else ""
        return f"{case.before:,}{more} in lane {case.message.lane.value} are due before it"
    return "a worker takes it next"


def _formatted(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
