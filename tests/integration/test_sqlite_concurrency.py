"""Many processes on one SQLite file: none is ever told that the database is locked."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from itertools import count
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, create_engine, func, select
from sqlalchemy.orm import Session

from postroom.message.message import Message
from postroom.states import RecipientState
from postroom.storage import queries, schema
from postroom.storage import tables as models
from postroom.storage.engine import (
    configure_sqlite,
    read_transaction,
    worker_engine,
    write_transaction,
)
from postroom.storage.enqueue import enqueue
from postroom.storage.enqueue_request import EnqueueRequest, OutboxDefaults
from postroom.storage.queue import queue_for
from postroom.storage.queue.records import ClaimRequest, OutcomeRecord

APPLICATIONS = 8
WORKERS = 2


def _application(url: str, number: int, duration_s: float) -> int:
    """Enqueue in one transaction after the other, and look at the outbox; return how many."""
    engine = create_engine(url)
    configure_sqlite(engine)
    give_up_at = time.monotonic() + duration_s
    tables = models.tables()
    enqueued = 0
    while time.monotonic() < give_up_at:
        with Session(engine) as session, session.begin():
            session.scalar(select(func.count()).select_from(tables.suppression))
            message = Message(sender="shop@example.com", subject=f"{number}/{enqueued}", text="Hi")
            receipt = enqueue(
                session,
                tables,
                EnqueueRequest(message=message, to=["a@b.example"]),
                OutboxDefaults(),
            )
            queries.status(session, tables, receipt.message_id)
        enqueued += 1
    engine.dispose()
    return enqueued


def _worker(url: str, number: int, closing_time: Path) -> list[int]:
    """Claim and record, a transaction each, until closing time; return whom it accepted."""
    engine = worker_engine(url)
    queue_store = queue_for(engine.dialect, models.tables())
    accepted: list[int] = []
    for turn in count(1):
        is_last = closing_time.exists()
        lease = ClaimRequest(limits={1: 50}, lease_s=60.0, lease_token=number * 1_000_000 + turn)
        with write_transaction(engine) as connection:
            claims = queue_store.claim(connection, lease)
        if is_last and not claims:
            break
        results = [
            OutcomeRecord(
                claim=one, state=RecipientState.ACCEPTED, attempted_at=datetime.now(UTC), relay="r"
            )
            for one in claims
        ]
        with write_transaction(engine) as connection:
            queue_store.record(connection, results)
        accepted += [claim.recipient_id for claim in claims]
    engine.dispose()
    return accepted


def _processes() -> BaseContext:
    """Return a way to start processes that share nothing but what has been imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _accepted(engine: Engine) -> int:
    with read_transaction(engine) as connection:
        return queries.stats(connection, models.tables()).by_state[RecipientState.ACCEPTED]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_eight_applications_and_two_workers_share_one_file(
    sqlite_url: URL, tmp_path: Path, full: bool
) -> None:
    duration_s = 60.0 if full else 3.0
    url = sqlite_url.render_as_string()
    engine = worker_engine(url)
    schema.create(engine)
    with ProcessPoolExecutor(APPLICATIONS + WORKERS, mp_context=_processes()) as pool:
        enqueueing = [
            pool.submit(_application, url, number, duration_s) for number in range(APPLICATIONS)
        ]
        closing_time = tmp_path / "closing-time"
        working = [pool.submit(_worker, url, number, closing_time) for number in range(WORKERS)]
        try:
            enqueued = sum(one.result() for one in enqueueing)
        finally:
            closing_time.touch()
        accepted = [recipient for one in working for recipient in one.result()]
    assert enqueued > APPLICATIONS
    assert len(accepted) == len(set(accepted)) == enqueued == _accepted(engine)
    engine.dispose()
