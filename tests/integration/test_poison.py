"""One row that nobody can read, one outcome that nobody can write: all others go on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Float, MetaData, String, Table, select, text
from sqlalchemy.orm import Session

from postroom import Message, Outbox, Receipt, RecipientError, RecipientState, Template
from postroom.delivery.claims import ClaimBatch
from postroom.delivery.unit_of_work import DeliveryStore, IntentRequest, UnitOfWork
from postroom.states import Fault
from postroom.storage.engine import read_transaction, write_transaction
from postroom.storage.queries import Explanation
from postroom.storage.queue.records import ClaimRequest, OutcomeRecord
from postroom.storage.tables import Tables
from postroom.storage.workers import WorkerIdentity
from postroom.testing import FaultyRelay
from tests.integration.mailroom import Mailroom

S = RecipientState

ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def outbox(engine: Engine, relay: FaultyRelay) -> Iterator[Outbox]:
    outbox = Outbox(relay.url, engine=engine, sender="shop@example.com")
    yield outbox
    outbox.close()


def send(outbox: Outbox, *to: Any, subject: Any = "Hello", **fields: Any) -> Receipt:
    with Session(outbox.engine) as session, session.begin():
        return outbox.enqueue(session, Message(subject=subject, text="Hi", **fields), to=to)


def spoil(outbox: Outbox, statement: str, **values: Any) -> None:
    """Write past the API, as another program or a bug would."""
    with write_transaction(outbox.engine) as connection:
        connection.execute(text(statement), values)


def explained(outbox: Outbox, receipt: Receipt) -> dict[str, Explanation]:
    with Session(outbox.engine) as session:
        return {one.address: one for one in outbox.explain(session, receipt)}


def arrived(relay: FaultyRelay) -> list[str]:
    return sorted(to for mail in relay.accepted for to in mail.recipients)


def drain(outbox: Outbox) -> None:
    assert outbox.worker().drain(20)


# -- rows that cannot be claimed ----------------------------------------------------------------


@on_sqlite
@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("name", "CAST(x'ff41' AS TEXT)", "name"),
        ("address", "CAST(x'ff40' AS TEXT)", "address"),
        ("address", "x'0102'", "address"),
        ("variables", "'{\"a\": Infinity}'", "variables"),
        ("variables", "'{\"a\": NaN}'", "variables"),
        ("variables", "'{broken'", "variables"),
        ("variables", "'[1]'", "variables"),
        ("variables", "5", "variables"),
        ("variables", "x'ff'", "variables"),
    ],
)
def test_a_recipient_that_cannot_be_read_is_set_aside_and_the_others_go_out(
    outbox: Outbox, relay: FaultyRelay, column: str, value: str, said: str
) -> None:
    receipt = send(outbox, ADA, EVE)
    later = send(outbox, BOB)
    spoil(outbox, f"UPDATE postroom_recipient SET {column} = {value} WHERE address = '{EVE}'")
    drain(outbox)
    assert arrived(relay) == [ADA, BOB]
    assert explained(outbox, later)[BOB].state is S.ACCEPTED
    (bad,) = [one for one in explained(outbox, receipt).values() if one.state is not S.ACCEPTED]
    assert bad.state is S.REJECTED
    assert said in bad.why
    assert "postroom retry" in bad.why


@on_sqlite
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("due_at", "'tomorrow'"),
        ("due_at", "x'00'"),
        ("due_at", "9e999"),
        ("lane", "7"),
        ("lane", "'fast'"),
        ("message_id", "'x'"),
        ("message_id", "1.5"),
        ("claim_count", "x'00'"),
        ("claim_count", "'many'"),
        ("claim_count", "9e999"),
        ("claim_count", "9223372036854775807"),
        ("try_count", "'many'"),
        ("try_count", "x'00'"),
        ("try_count", "9e999"),
        ("lease_token", "'mine'"),
    ],
)
def test_a_place_in_the_queue_that_makes_no_sense_ends_and_the_others_go_out(
    outbox: Outbox, relay: FaultyRelay, column: str, value: str
) -> None:
    bad = send(outbox, EVE)
    spoil(outbox, f"UPDATE postroom_queue SET {column} = {value}")
    send(outbox, ADA)
    drain(outbox)
    assert ADA in arrived(relay)
    with read_transaction(outbox.engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM postroom_queue")).scalar_one() == 0
    assert explained(outbox, bad)[EVE].state in (S.REJECTED, S.ACCEPTED)


@on_postgresql
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("due_at", "'infinity'"),
        ("due_at", "'NaN'"),
        ("lane", "7"),
        ("lane", "-1"),
        ("claim_count", "32767"),
        ("claim_count", "-32768"),
        ("try_count", "32767"),
    ],
)
def test_numbers_at_their_end_in_the_queue_stop_nobody(
    outbox: Outbox, relay: FaultyRelay, column: str, value: str
) -> None:
    bad = send(outbox, EVE)
    spoil(outbox, f"UPDATE postroom_queue SET {column} = {value}")
    send(outbox, ADA)
    drain(outbox)
    assert ADA in arrived(relay)
    assert explained(outbox, bad)[EVE].state in (S.REJECTED, S.ACCEPTED)


def test_places_in_the_queue_without_a_recipient_end(outbox: Outbox, relay: FaultyRelay) -> None:
    send(outbox, *(f"gone{n}@example.com" for n in range(600)))
    send(outbox, ADA)
    spoil(outbox, "DELETE FROM postroom_recipient WHERE address LIKE 'gone%'")
    drain(outbox)
    assert arrived(relay) == [ADA]
    with read_transaction(outbox.engine) as connection:
        assert connection.execute(text("SELECT count(*) FROM postroom_queue")).scalar_one() == 0


@on_postgresql
def test_variables_that_python_cannot_read_are_set_aside(
    outbox: Outbox, relay: FaultyRelay
) -> None:
    receipt = send(outbox, ADA, EVE)
    digits = "9" * 5000
    spoil(
        outbox,
        "UPDATE postroom_recipient SET variables = CAST(:v AS jsonb) WHERE address = :a",
        v=f'{{"n": {digits}}}',
        a=EVE,
    )
    drain(outbox)
    assert arrived(relay) == [ADA]
    assert "variables" in explained(outbox, receipt)[EVE].why


# -- messages that cannot be read ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("lane", "'fast'", "fast"),
        ("on_doubt", "'ask'", "ask"),
        ("headers", "'{\"a\": 1}'", "message"),
        ("templates", "'{\"text\": 5}'", "message"),
        ("retry_delays_s", "'[\"soon\"]'", "soon"),
        ("sender", "'nobody'", "nobody"),
    ],
)
def test_a_message_that_makes_no_sense_is_set_aside_and_the_others_go_out(
    outbox: Outbox, relay: FaultyRelay, column: str, value: str, said: str
) -> None:
    bad = send(outbox, EVE, subject="bad")
    send(outbox, ADA)
    spoil(outbox, f"UPDATE postroom_message SET {column} = {value} WHERE subject = 'bad'")
    drain(outbox)
    assert arrived(relay) == [ADA]
    why = explained(outbox, bad)[EVE]
    assert (why.state, said in why.why) == (S.REJECTED, True), why.why


@on_sqlite
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("subject", "CAST(x'ff' AS TEXT)"),
        ("html", "CAST(x'ff' AS TEXT)"),
        ("headers", "'{broken'"),
        ("templates", "x'ff'"),
        ("expires_at", "'tomorrow'"),
        ("created_at", "5"),
        ("retry_delays_s", "'[NaN]'"),
        ("dsn", "'[]]'"),
    ],
)
def test_a_message_that_cannot_be_decoded_is_set_aside_with_the_column_named(
    outbox: Outbox, relay: FaultyRelay, column: str, value: str
) -> None:
    bad = send(outbox, EVE)
    spoil(outbox, f"UPDATE postroom_message SET {column} = {value}")
    send(outbox, ADA)
    drain(outbox)
    assert arrived(relay) == [ADA]
    with read_transaction(outbox.engine) as connection:
        state, fault, reply = connection.execute(
            text("SELECT state, fault, reply FROM postroom_recipient WHERE message_id = :id"),
            {"id": bad.message_id},
        ).one()
    assert (state, fault) == (S.REJECTED, Fault.OURSELVES)
    assert column in reply


@on_postgresql
def test_a_date_that_python_does_not_have_sets_one_message_aside(
    outbox: Outbox, relay: FaultyRelay
) -> None:
    bad = send(outbox, EVE)
    spoil(outbox, "UPDATE postroom_message SET expires_at = 'infinity', created_at = '-infinity'")
    send(outbox, ADA)
    drain(outbox)
    assert arrived(relay) == [ADA]
    why = explained(outbox, bad)[EVE].why
    assert "message.created_at" in why
    assert "message.expires_at" in why


# -- outcomes that cannot be written ------------------------------------------------------------


class Ledgered:
    """The ledger thread's books on one database, with claims to record."""

    def __init__(self, engine: Engine, tables: Tables, *to: str) -> None:
        self.room = Mailroom(engine, tables)
        self.message = self.room.enqueue(*to)
        now = datetime.now(UTC)
        beat = WorkerIdentity(id="w", host="h", pid=1, version="1", started_at=now)
        self.books = DeliveryStore(engine, tables, beat)
        self.claims = {claim.address: claim for claim in self.room.claim()}

    def settle(self, *results: OutcomeRecord, **work: Any) -> Any:
        lease = ClaimRequest(limits={}, lease_s=60, lease_token=9)
        return self.books.commit(
            UnitOfWork(**({"outcomes": results, "claim_request": lease} | work))
        )

    def result(self, address: str, state: S = S.ACCEPTED, **fields: Any) -> OutcomeRecord:
        known = {
            "attempted_at": datetime.now(UTC),
            "relay": "main",
            "reply": "250 ok",
            "reply_code": 250,
        }
        return OutcomeRecord(**({"claim": self.claims[address], "state": state} | known | fields))


@pytest.fixture
def ledgered(worker_engine: Engine, tables: Tables) -> Iterator[Ledgered]:
    ledgered = Ledgered(worker_engine, tables, ADA, BOB, EVE)
    yield ledgered
    ledgered.books.disconnect()


@pytest.mark.parametrize("state", [S.ACCEPTED, S.REJECTED, S.DEFERRED])
@pytest.mark.parametrize(
    "odd",
    [
        {"reply": "\ud800\0"},
        {"reply_code": 10**30},
        {"reply_code": "two"},
        {"enhanced_status": "5" * 300},
        {"enhanced_status": "\ud800"},
        {"duration_s": float("nan")},
        {"duration_s": object()},
        {"relay": "\ud800" * 100},
        {"reply": 5},
    ],
    ids=lambda odd: ascii(odd)[:30],
)
def test_an_outcome_that_the_database_refuses_is_recorded_plainly_beside_the_others(
    ledgered: Ledgered, state: S, odd: dict[str, Any]
) -> None:
    due = {"due_in_s": 60.0} if state is S.DEFERRED else {}
    ledgered.settle(
        ledgered.result(ADA),
        ledgered.result(EVE, state, **(due | odd)),
        ledgered.result(BOB, S.DEFERRED, due_in_s=60.0),
    )
    found = ledgered.room.states(ledgered.message)
    assert found == {ADA: S.ACCEPTED, BOB: S.DEFERRED, EVE: state}
    assert ledgered.room.count("queue") == 1 + (state is S.DEFERRED)


@pytest.mark.parametrize("odd_s", [float("inf"), float("nan"), 1e300])
def test_a_pause_without_end_becomes_one_of_an_hour(ledgered: Ledgered, odd_s: float) -> None:
    ledgered.settle(ledgered.result(EVE, S.DEFERRED, due_in_s=odd_s))
    due_at = ledgered.room.status(ledgered.message).recipients[2].due_at
    assert due_at is not None
    assert 3500 < (due_at - datetime.now(UTC)).total_seconds() <= 3600


def refuse(engine: Engine, what: str, table: str, recipient_id: int) -> None:
    """Let a trigger of the application's refuse every ``what`` of one recipient."""
    id = "id" if table == "recipient" else "recipient_id"
    row = "OLD" if what == "DELETE" else "NEW"
    name = f"no_{table}_{what.lower()}"
    with write_transaction(engine) as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql(
                f"CREATE TRIGGER {name} BEFORE {what} ON postroom_{table} "
                f"WHEN {row}.{id} = {recipient_id} BEGIN SELECT RAISE(ABORT, 'not this one'); END"
            )
        else:
            connection.exec_driver_sql(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'not this one'; END $$"
            )
            connection.exec_driver_sql(
                f"CREATE TRIGGER {name} BEFORE {what} ON postroom_{table} FOR EACH ROW "
                f"WHEN ({row}.{id} = {recipient_id}) EXECUTE FUNCTION {name}()"
            )


def test_an_outcome_that_can_never_be_recorded_holds_nobody_up_and_is_not_sent_again(
    ledgered: Ledgered,
) -> None:
    refuse(ledgered.room.engine, "UPDATE", "recipient", ledgered.claims[EVE].recipient_id)
    ledgered.settle(*map(ledgered.result, (ADA, EVE, BOB)))
    states = ledgered.room.states(ledgered.message)
    assert (states[ADA], states[BOB]) == (S.ACCEPTED, S.ACCEPTED)
    assert ledgered.room.count("queue") == 0


def test_a_renewal_an_intent_and_a_release_that_are_refused_hold_nobody_up(
    ledgered: Ledgered,
) -> None:
    ada, bob, eve = (ledgered.claims[one] for one in (ADA, BOB, EVE))
    refuse(ledgered.room.engine, "UPDATE", "queue", eve.recipient_id)
    held = ClaimBatch([ada, eve, bob], lease_token=1, lease_s=60, claimed_at=0)
    settled = ledgered.settle(renewals=[held], intents=[IntentRequest([ada]), IntentRequest([eve])])
    assert settled.renewals == [{ada.recipient_id, bob.recipient_id}]
    assert settled.intents == [{ada.recipient_id}, set()]
    ledgered.settle(released=[bob, eve])
    assert [claim.address for claim in ledgered.room.claim(1, token=3)] == [BOB]


# -- what the database finds ---------------------------------------------------------------------


@on_sqlite
@pytest.mark.parametrize("rate", [float("inf"), float("-inf")])
def test_a_query_that_finds_an_infinite_number_is_refused_with_the_address_and_the_variable(
    outbox: Outbox, relay: FaultyRelay, rate: float
) -> None:
    people = Table("person", MetaData(), Column("email", String), Column("rate", Float))
    people.create(outbox.engine)
    with outbox.engine.begin() as connection:
        known = [{"email": ADA, "rate": 1.5}, {"email": EVE, "rate": rate}]
        connection.execute(people.insert(), known)
    found = select(people.c.email, people.c.rate)
    with Session(outbox.engine) as session:
        with pytest.raises(RecipientError, match=rf"rate \(-?[Ii]nf.*\) of {EVE}"):
            outbox.enqueue(
                session, Message(subject=Template.from_string("{{ rate }}"), text="Hi"), to=found
            )
        session.commit()
    send(outbox, BOB)
    drain(outbox)
    assert arrived(relay) == [BOB]
