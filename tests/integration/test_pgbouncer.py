"""Everything a worker does, through PgBouncer in transaction mode: nothing hangs on a session.

The queue store's contract and the core of delivery run again, with two server sessions for all.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.orm import Session

from postroom import Message, Outbox
from postroom.storage import engine as engines
from postroom.storage import schema, workers
from postroom.testing import FaultyRelay
from tests.integration.test_delivery import (  # noqa: F401 - run again, on the fixtures below
    ADA,
    QUICK,
    office,
    test_a_broken_connection_after_the_dot_is_in_doubt_and_resent_later,
    test_a_passing_refusal_is_tried_again_on_the_messages_own_schedule,
    test_a_rejected_recipient_does_not_delay_the_others,
    test_attachments_arrive_as_they_were_when_they_were_enqueued,
    test_cancelled_mail_is_not_sent_and_may_be_queued_again,
    test_doubt_can_be_held_for_a_person_to_resolve,
    test_many_workers_send_every_recipient_once,
    test_what_was_committed_goes_out_and_is_recorded,
    test_what_was_rolled_back_never_existed,
)
from tests.integration.test_queue_store import *  # noqa: F403 - all of it, on the fixtures below
from tests.services.pgbouncer import SESSIONS, PgBouncer
from tests.services.postgresql import Postgresql


@pytest.fixture(scope="module")
def pgbouncer(postgres: Postgresql) -> Iterator[PgBouncer]:
    pgbouncer = PgBouncer(postgres)
    yield pgbouncer
    pgbouncer.remove()


@pytest.fixture
def database_url(pgbouncer: PgBouncer, postgresql_url: URL) -> Iterator[URL]:
    yield pgbouncer.url(postgresql_url)
    pgbouncer.let_go()


@pytest.fixture
def engine(database_url: URL) -> Iterator[Engine]:
    # What psycopg asks of everybody who goes through PgBouncer in transaction mode.
    application = create_engine(database_url, connect_args={"prepare_threshold": None})
    schema.create(application)
    yield application
    application.dispose()


def test_polling_delivers_what_no_notification_told_of(engine: Engine, relay: FaultyRelay) -> None:
    # Another outbox enqueues, as another server's would: no hint within this one.
    clerk = Outbox(engine=engine, sender="shop@example.com")
    outbox = Outbox(relay.url, engine=engine, worker=QUICK)
    with outbox.running():
        for number in range(1, 4):
            with Session(engine) as session, session.begin():
                clerk.enqueue(session, Message(subject="Order", text="x"), to=[ADA])
            relay.wait_for(number)
    outbox.close()


def test_a_listener_hears_nothing_and_does_not_mind(worker_engine: Engine) -> None:
    heard = workers.listen(worker_engine, timeout_s=0.1)
    assert next(heard) is False
    with engines.write_transaction(worker_engine) as connection:
        connection.execute(text(f"NOTIFY {workers.CHANNEL}"))
    assert next(heard) is False
    heard.close()


def test_many_connections_share_two_sessions(
    worker_engine: Engine, postgres: Postgresql, database_url: URL
) -> None:
    together = threading.Barrier(5)

    def work() -> None:
        engine = engines.worker_engine(worker_engine.url)
        with engine.connect() as connection:
            together.wait()
            for _ in range(20):
                with engines.begin_write(connection):
                    connection.execute(text("SELECT 1"))
        engine.dispose()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sessions = postgres.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = %s", database_url.database
    )
    assert 1 <= len(sessions) <= SESSIONS
