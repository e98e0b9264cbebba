"""An outbox in a schema of any name, and beside another whose name is nearly the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import URL, Engine
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateSchema

from postroom import Attachment, Message, Outbox, RecipientState, WorkerConfig
from postroom.storage import engine as engines
from postroom.storage import migrations, prune, queries, schema
from postroom.storage import tables as models
from postroom.storage.engine import read_transaction, write_transaction
from postroom.storage.queries import Search
from postroom.testing.faulty_relay import FaultyRelay
from tests.integration.mailroom import Mailroom

NAMES = ["MailRoom", "order", "my schema", 'a"b', "a.b", "100%", "100%s", "{queue}", "Ünï"]
ADA, BOB = "ada@example.com", "bob@example.com"


@pytest.fixture
def engine(postgresql_url: URL) -> Iterator[Engine]:
    engine = engines.worker_engine(postgresql_url)
    yield engine
    engine.dispose()


def outbox_in(engine: Engine, name: str) -> Mailroom:
    with write_transaction(engine) as connection:
        connection.execute(CreateSchema(name))
    migrations.upgrade(engine, name)
    return Mailroom(engine, models.tables(name))


@pytest.mark.parametrize("name", NAMES)
def test_everything_works_in_a_schema_of_that_name(engine: Engine, name: str) -> None:
    mailroom = outbox_in(engine, name)
    migrations.check(engine, name)
    schema.verify(engine, name)
    message_id = mailroom.enqueue(ADA, BOB, attachments=[Attachment.from_bytes("a.txt", b"a")])
    claims = mailroom.claim()
    assert [claim.address for claim in claims] == [ADA, BOB]
    assert mailroom.intend(claims[0])
    with write_transaction(engine) as connection:
        mailroom.queue_store.release(connection, claims[:1])
        assert len(mailroom.queue_store.renew(connection, claims, 60)) == 1
    [again] = mailroom.claim()
    mailroom.expire_leases()
    mailroom.claim(token=2)
    for claim in (again, claims[1]):
        mailroom.record(claim, RecipientState.ACCEPTED)  # late
    assert set(mailroom.states(message_id).values()) == {"accepted"}
    with read_transaction(engine) as connection:
        assert mailroom.queue_store.is_empty(connection)
        assert len(queries.search(connection, mailroom.tables, Search())) == 1
    later = datetime.now(UTC) + timedelta(days=2)
    pruned = prune.prune(engine, mailroom.tables, timedelta(0), now=lambda: later)
    assert (pruned.messages, pruned.blobs) == (1, 1)


def test_names_that_differ_in_case_are_two_outboxes(engine: Engine) -> None:
    one, other = outbox_in(engine, "mailroom"), outbox_in(engine, "MailRoom")
    first = one.enqueue(ADA)
    second = other.enqueue(BOB)
    [claim] = other.claim()
    assert claim.address == BOB
    other.record(claim, RecipientState.ACCEPTED)
    assert other.states(second) == {BOB: "accepted"}
    assert one.states(first) == {ADA: "queued"}
    assert one.count("attempt") == 0


def test_a_worker_is_woken_in_a_schema_of_an_odd_name(
    engine: Engine, postgresql_url: URL, relay: FaultyRelay
) -> None:
    outbox_in(engine, 'My "mail"')
    outbox = Outbox(
        relay.url,
        engine=engine,
        schema='My "mail"',
        sender="shop@example.com",
        worker=WorkerConfig(poll_interval_s=600),
    )
    with outbox.running():
        with Session(engine) as session, session.begin():
            outbox.enqueue(session, Message(subject="Hello", text="x"), to=[ADA])
        relay.wait_for(1)
    outbox.close()


@pytest.mark.parametrize("name", ["MailRoom", "my schema", 'a"b', "{queue}"])
def test_a_file_attached_under_that_name_is_an_outbox_too(sqlite_url: URL, name: str) -> None:
    engine = engines.worker_engine(sqlite_url)
    quoted = engine.dialect.identifier_preparer.quote_identifier(name)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"ATTACH ':memory:' AS {quoted}")
        tables = models.tables(name)
        tables.metadata.create_all(connection)
        schema.check(connection, tables)
        mailroom = Mailroom(engine, tables)
        assert mailroom.queue_store.is_empty(connection)
    engine.dispose()
