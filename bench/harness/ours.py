"""Our side of a contest: enqueue, let a worker process deliver, check that all was recorded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy.orm import Session

from bench.harness import limit
from bench.harness.contest import Contender, Figures
from bench.harness.databases import Database
from bench.harness.outboxes import Opened, check_all_recorded, opened, relay_url
from bench.harness.worker import Worker
from postroom import Message

#: Puts the mail of one run into the outbox and commits; returns how many seconds that took.
Enqueue: TypeAlias = Callable[[Opened], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one run delivers: ``count`` recipients put there by ``enqueue``.

    ``connections`` are as many as a relay has by default. ``relay`` opens the relay's port, for
    the time of the run.
    """

    count: int
    enqueue: Enqueue
    connections: int = 4
    relay: Callable[[], AbstractContextManager[int]] = limit.sink


def contender(name: str, database: Database, job: Job, note: str = "") -> Contender:
    """Return our contender on one kind of database."""

    def run() -> Figures:
        with job.relay() as port:
            relay = relay_url(port, connections=job.connections)
            with opened(database, relay) as outbox:
                return _measured(outbox, job)

    note = note or f"one worker process, {job.connections} connections"
    return Contender(name=name, run=run, note=note, is_ours=True)


def _measured(outbox: Opened, job: Job) -> Figures:
    count = job.count
    with Worker(database=outbox.url, relay=outbox.relay) as worker:
        enqueued_s = job.enqueue(outbox)
        worker.go()
        measured = worker.wait()
    check_all_recorded(outbox, count)
    delivered_s = measured["elapsed_s"]
    return {
        "msg/s": count / delivered_s,
        "whole msg/s": count / (enqueued_s + delivered_s),
        "enqueue/s": count / enqueued_s,
        "worker CPU us/msg": measured["cpu_s"] / count * 1e6,
        "peak over idle MB": (measured["peak_kib"] - worker.idle_kib) / 1024,
    }


def enqueue_one(message: Message, to: Iterable[str]) -> Enqueue:
    """Return how to enqueue one message to many, in one transaction."""

    def enqueue(outbox: Opened) -> float:
        recipients = list(to)
        started = time.perf_counter()
        with Session(outbox.engine) as session, session.begin():
            outbox.outbox.enqueue(session, message, to=recipients)
        return time.perf_counter() - started

    return enqueue
