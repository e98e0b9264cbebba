"""What PostgreSQL does with many rows waiting: a claim costs what it claims, not what waits.

On statistics of now, and on those of a queue that was nearly empty: the first campaign after a
quiet night. 100,000 recipients wait, with ``--full`` 1,000,000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import URL, Connection, Engine, text

from postroom.states import Lane, Phase, RecipientState
from postroom.storage import engine as engines
from postroom.storage import queries, schema
from postroom.storage.queries import Search
from postroom.storage.queue.postgresql import PostgresqlQueue
from postroom.storage.queue.records import Claim, ClaimRequest, OutcomeRecord
from postroom.storage.tables import Tables
from tests.integration.plans import plans
from tests.services.postgresql import Postgresql

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

BATCH = 500

#: What a worker's statements may never read as a whole.
LARGE = {"postroom_message", "postroom_recipient", "postroom_queue", "postroom_attempt"}

#: Pages for each recipient that is written: the row's page and every index, once to find and
#: once to write, each some levels deep; and twice, see `Plan`.
PAGES_EACH = 60

#: Pages for a page of results: 50 messages with ten recipients each.
PAGES_TO_LOOK = 5_000

#: Ten recipients a message; half of them are due, the others within a day; one attempt each.
_FILL = (
    """
    INSERT INTO postroom_message (content_hash, message_id_seed, idempotency_key, sender,
                                  subject, lane, shared, on_doubt, tags, created_at)
    SELECT '', md5(n::text), 'key ' || n, 'shop@example.com', 'Order',
           CASE WHEN n % 100 = 0 THEN 'urgent' WHEN n % 10 = 0 THEN 'normal' ELSE 'bulk' END,
           false, 'resend', '["orders"]', now()
    FROM generate_series(:first ::int, :last ::int) AS n
    """,
    """
    INSERT INTO postroom_recipient (message_id, address, address_key, type, state, updated_at)
    SELECT m.id, a, a, 'to', 'queued', now()
    FROM postroom_message AS m
    CROSS JOIN generate_series(1, 10) AS n
    CROSS JOIN LATERAL (VALUES ('r' || n || '.' || m.id || '@example.com')) AS address(a)
    WHERE m.id BETWEEN :first AND :last
    """,
    """
    INSERT INTO postroom_queue (recipient_id, message_id, lane, due_at)
    SELECT r.id, r.message_id,
           CASE WHEN r.message_id % 100 = 0 THEN 0 WHEN r.message_id % 10 = 0 THEN 1 ELSE 2 END,
           extract(epoch FROM now()) + 86400 * (random() - 0.5)
    FROM postroom_recipient AS r WHERE r.message_id BETWEEN :first AND :last
    """,
    """
    INSERT INTO postroom_attempt (recipient_id, attempted_at, relay, phase, reply_code, outcome)
    SELECT r.id, now() - interval '1 hour', 'main', 'rcpt', 451, 'deferred'
    FROM postroom_recipient AS r WHERE r.message_id BETWEEN :first AND :last
    """,
)


def _fill(connection: Connection, first: int, last: int) -> None:
    for statement in _FILL:
        connection.execute(text(statement), {"first": first, "last": last})


@pytest.fixture(scope="module")
def stale(postgres: Postgresql, full: bool) -> Iterator[URL]:
    """A full queue, of which PostgreSQL thinks that it is nearly empty."""
    url = postgres.create_database()
    engine = engines.worker_engine(url, deadline_s=None)
    schema.create(engine)
    with engine.begin() as connection:
        for table in ("message", "recipient", "queue", "attempt"):
            connection.execute(text(f"ALTER TABLE postroom_{table} SET (autovacuum_enabled = off)"))
        _fill(connection, 1, 10)
        connection.execute(text("ANALYZE"))
        _fill(connection, 11, 100_000 if full else 10_000)
    engine.dispose()
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="module")
def analysed(stale: URL, postgres: Postgresql) -> Iterator[URL]:
    """The same queue, of which PostgreSQL knows."""
    url = stale.set(database=f"{stale.database}_analysed")
    postgres.execute(f"CREATE DATABASE {url.database} TEMPLATE {stale.database}")
    engine = engines.worker_engine(url)
    with engine.begin() as connection:
        connection.execute(text("ANALYZE"))
    engine.dispose()
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=["stale", "analysed"])
def database_url(request: pytest.FixtureRequest) -> URL:
    url: URL = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def engine(database_url: URL) -> Iterator[Engine]:
    engine = engines.worker_engine(database_url)
    yield engine
    engine.dispose()


class Worker:
    """What a worker asks of the queue store, and what that costs."""

    def __init__(self, engine: Engine, tables: Tables) -> None:
        self.engine = engine
        self.queue_store = PostgresqlQueue(tables, engine.dialect)

    def claim(self, connection: Connection) -> list[Claim]:
        share = {lane.rank: BATCH if lane is Lane.BULK else 10 for lane in Lane}
        return self.queue_store.claim(
            connection, ClaimRequest(limits=share, lease_s=60, lease_token=1)
        )

    def claimed(self) -> list[Claim]:
        with engines.write_transaction(self.engine) as connection:
            claims = self.claim(connection)
        assert len(claims) >= BATCH
        return claims

    def pays(self, call: Callable[[Connection], object]) -> None:
        """Assert that ``call`` reads no table as a whole, and no more pages than it needs."""
        for plan in plans(self.engine, call):
            assert LARGE.isdisjoint(plan.scanned), plan.statement
            assert 0 < plan.pages < BATCH * PAGES_EACH, plan.statement


@pytest.fixture
def worker(engine: Engine, tables: Tables) -> Worker:
    return Worker(engine, tables)


def test_a_claim_reads_what_it_claims(worker: Worker) -> None:
    worker.pays(worker.claim)


@pytest.mark.parametrize("state", [RecipientState.ACCEPTED, RecipientState.DEFERRED])
def test_outcomes_are_written_one_by_one(worker: Worker, state: RecipientState) -> None:
    due_in_s = None if state is RecipientState.ACCEPTED else 60.0
    results = [
        OutcomeRecord(
            claim=claim,
            state=state,
            attempted_at=datetime.now(UTC),
            due_in_s=due_in_s,
            relay="main",
            phase=Phase.DOT,
            reply_code=250,
        )
        for claim in worker.claimed()
    ]
    worker.pays(lambda connection: worker.queue_store.record(connection, results))


def test_outcomes_of_lost_claims_are_written_one_by_one(worker: Worker) -> None:
    results = [
        OutcomeRecord(
            claim=replace(claim, lease_token=2),
            state=RecipientState.ACCEPTED,
            attempted_at=datetime.now(UTC),
            relay="main",
        )
        for claim in worker.claimed()
    ]
    worker.pays(lambda connection: worker.queue_store.record(connection, results))


def test_a_lease_costs_what_it_holds(worker: Worker) -> None:
    claims = worker.claimed()
    worker.pays(lambda connection: worker.queue_store.mark_intent(connection, claims))
    worker.pays(lambda connection: worker.queue_store.renew(connection, claims, 60))
    worker.pays(lambda connection: worker.queue_store.release(connection, claims))


@pytest.mark.parametrize(
    "wanted",
    [
        Search(),
        Search(before_id=5_000),
        Search(idempotency_key="key 77"),
        Search(address="r3.4711@example.com"),
        Search(lane=Lane.URGENT, tag="orders"),
    ],
    ids=["all", "before", "key", "address", "lane and tag"],
)
def test_a_page_of_messages_reads_a_page(engine: Engine, tables: Tables, wanted: Search) -> None:
    for plan in plans(engine, lambda connection: queries.search(connection, tables, wanted)):
        assert plan.pages < PAGES_TO_LOOK, plan.statement


def test_a_status_reads_its_message(engine: Engine, tables: Tables) -> None:
    for plan in plans(engine, lambda connection: queries.status(connection, tables, 4_711)):
        assert plan.pages < 100, plan.statement


def test_counting_reads_no_message_and_not_every_attempt(engine: Engine, tables: Tables) -> None:
    counting = plans(engine, lambda connection: queries.stats(connection, tables))
    scanned = [name for plan in counting for name in plan.scanned]
    assert not {"postroom_message", "postroom_attempt"} & set(scanned)
    assert scanned.count("postroom_recipient") <= 1
