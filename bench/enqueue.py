"""``enqueue``: what a mail costs the application that asks for it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, event, insert, select
from sqlalchemy.orm import Session

from bench.harness import letters, ours
from bench.harness.contest import Contender, Figures, Series, hold
from bench.harness.databases import Database, Servers, sqlite
from bench.harness.options import Options
from bench.harness.outboxes import Opened, opened
from bench.harness.report import Bar, Report

NAME = "enqueue"

#: The application's own.
_CUSTOMERS = Table(
    "customer",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("email", String),
    Column("name", String),
)

#: Nothing is delivered here.
_NO_RELAY = "smtp://127.0.0.1:1?tls=off"

_EXPLANATION = """\
The time inside `outbox.enqueue()`, in a transaction that the application has begun with a
statement of its own. *Single*: one text + HTML mail to one recipient, the median of many, without
the application's commit (`with commit` has it). *List*: one message to a list of addresses, commit
included. *Query*: one message to whomever a `select()` of address and name finds in the
application's own table, commit included."""


def run(options: Options) -> Report:
    """Measure both databases."""
    singles = options.size(full=1_000, short=300)
    listed = options.size(full=100_000, short=20_000)
    found = options.size(full=1_000_000, short=100_000)
    with Servers() as servers:
        databases = [("PostgreSQL", servers.postgresql), ("SQLite", sqlite)]
        singly = hold(
            [_single(name, database, singles) for name, database in databases], options.rounds
        )
        lists = hold(
            [_list(name, database, listed) for name, database in databases], options.rounds
        )
        queries = hold(
            [_query(name, database, found) for name, database in databases], options.rounds
        )
    return Report(
        name=NAME,
        title="what a mail costs the application",
        explanation=_EXPLANATION,
        headline="ms",
        parameters={
            "single mails": singles,
            "addresses": listed,
            "found by a query": found,
            "rounds": options.rounds,
        },
        series=[*singly, *lists, *queries],
        bars=[bar for one in singly for bar in _bars(one)]
        + [
            Bar(what=f"{one.name}: mails/s", value=one.median("mails/s"), least=50_000)
            for one in lists
        ]
        + [
            Bar(what=f"{one.name}: mails/s", value=one.median("mails/s"), least=150_000)
            for one in queries
        ],
    )


def _bars(series: Series) -> list[Bar]:
    return [
        Bar(what=f"{series.name}: ms", value=series.median("ms"), most=1),
        Bar(what=f"{series.name}: statements", value=max(series.values("statements")), most=4),
    ]


def _single(name: str, database: Database, count: int) -> Contender:
    def run() -> Figures:
        with opened(database, _NO_RELAY) as outbox, _counted(outbox.engine) as statements:
            taken = [_enqueued(outbox, number) for number in range(count)]
        return {
            "ms": statistics.median(enqueue_s for enqueue_s, _ in taken) * 1000,
            "with commit ms": statistics.median(sum(both) for both in taken) * 1000,
            # One statement is the application's own.
            "statements": len(statements) / count - 1,
        }

    return Contender(name=f"single, {name}", run=run, is_ours=True)


def _enqueued(outbox: Opened, number: int) -> tuple[float, float]:
    """Return how many seconds enqueue and commit took."""
    with Session(outbox.engine) as session:
        session.connection().exec_driver_sql("SELECT 1")
        started = time.perf_counter()
        outbox.outbox.enqueue(session, letters.message(), to=[letters.address(number)])
        enqueued = time.perf_counter()
        session.commit()
        return enqueued - started, time.perf_counter() - enqueued


@contextmanager
def _counted(engine: Engine) -> Iterator[list[str]]:
    statements: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine, "before_cursor_execute", note)


def _list(name: str, database: Database, count: int) -> Contender:
    enqueue = ours.enqueue_one(letters.message(), letters.addresses(count))

    def run() -> Figures:
        with opened(database, _NO_RELAY) as outbox:
            elapsed_s = enqueue(outbox)
        return {"mails/s": count / elapsed_s, "ms": elapsed_s / count * 1000}

    return Contender(name=f"list, {name}", run=run, is_ours=True)


def _query(name: str, database: Database, count: int) -> Contender:
    def run() -> Figures:
        with opened(database, _NO_RELAY) as outbox:
            _take_customers(outbox.engine, count)
            started = time.perf_counter()
            with Session(outbox.engine) as session, session.begin():
                outbox.outbox.enqueue(
                    session, letters.message(), to=select(_CUSTOMERS.c.email, _CUSTOMERS.c.name)
                )
            elapsed_s = time.perf_counter() - started
        return {"mails/s": count / elapsed_s, "ms": elapsed_s / count * 1000}

    return Contender(name=f"query, {name}", run=run, is_ours=True)


def _take_customers(engine: Engine, count: int) -> None:
    with engine.begin() as connection:
        _CUSTOMERS.create(connection)
        for start in range(0, count, 10_000):
            numbers = range(start, min(start + 10_000, count))
            connection.execute(
                insert(_CUSTOMERS),
                [{"email": letters.address(one), "name": f"Customer {one}"} for one in numbers],
            )
