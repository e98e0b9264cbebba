"""In which order a relay's senders get their transactions."""

from __future__ import annotations

import threading

import pytest

from postroom.delivery.claims import ClaimBatch
from postroom.delivery.composer import MessageComposer
from postroom.delivery.config import WorkerConfig
from postroom.delivery.mail_transaction import MailTransaction
from postroom.delivery.sender_pool import LaneQueue
from postroom.states import Lane
from postroom.storage.message_store import StoredMessage
from tests.unit.claims import claim, stored_message

MESSAGE: StoredMessage = stored_message()


@pytest.fixture
def queue() -> LaneQueue:
    weights = WorkerConfig().lane_weights
    return LaneQueue({lane.rank: weight for lane, weight in weights.items()})


def transaction(number: int, lane: Lane = Lane.NORMAL) -> MailTransaction:
    one = claim(number, lane)
    batch = ClaimBatch([one], lease_token=1, lease_s=60, claimed_at=0)
    return MailTransaction(composer=MessageComposer(MESSAGE), claims=(one,), batch=batch)


def taken(queue: LaneQueue, count: int) -> list[int]:
    transactions = [queue.get_nowait() for _ in range(count)]
    return [one.claims[0].recipient_id for one in transactions if one is not None]


def test_a_lane_is_first_in_first_out(queue: LaneQueue) -> None:
    queue.put([transaction(1), transaction(2), transaction(3)])
    assert taken(queue, 4) == [1, 2, 3]


def test_an_urgent_job_is_next_whatever_waits(queue: LaneQueue) -> None:
    queue.put([transaction(n, Lane.BULK) for n in range(100)])
    taken(queue, 50)
    queue.put([transaction(1000, Lane.URGENT)])
    assert 1000 in taken(queue, 2)


def test_lanes_with_a_backlog_share_by_their_weights(queue: LaneQueue) -> None:
    queue.put([transaction(n, Lane.BULK) for n in range(1000)])
    queue.put([transaction(1000 + n, Lane.NORMAL) for n in range(1000)])
    queue.put([transaction(2000 + n, Lane.URGENT) for n in range(1000)])
    first = taken(queue, 130)
    shares = [sum(n // 1000 == lane for n in first) for lane in (2, 1, 0)]
    assert shares == pytest.approx([80, 40, 10], abs=2)


def test_a_lane_gets_no_credit_for_the_time_it_was_empty(queue: LaneQueue) -> None:
    queue.put([transaction(n, Lane.URGENT) for n in range(500)])
    taken(queue, 400)
    queue.put([transaction(1000 + n, Lane.BULK) for n in range(100)])
    assert sum(n >= 1000 for n in taken(queue, 18)) <= 3


def test_what_is_put_back_comes_next_in_its_lane(queue: LaneQueue) -> None:
    queue.put([transaction(1), transaction(2)])
    first = queue.get_nowait()
    assert first is not None
    queue.put_front(first)
    assert taken(queue, 2) == [1, 2]


def test_a_waiting_sender_gets_a_job_as_it_comes(queue: LaneQueue) -> None:
    got: list[MailTransaction | None] = []
    sender = threading.Thread(target=lambda: got.append(queue.get(10)))
    sender.start()
    one = transaction(1)
    queue.put([one])
    sender.join()
    assert got == [one]


def test_a_closed_queue_hands_out_nothing_and_returns_what_waited(queue: LaneQueue) -> None:
    queue.put([transaction(1), transaction(2, Lane.BULK)])
    assert len(queue.close()) == 2
    assert queue.get_nowait() is None
    assert queue.get(10) is None
    queue.put_front(transaction(3))
    assert queue.get_nowait() is None
    assert len(queue.close()) == 1
