"""Rows that no program of ours would write: the outbox goes on, and shows them as they are.

200 rows in the short form, 10,000 in the long one, each on SQLite, which takes any value in any
column, and on PostgreSQL, which takes what its types admit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Double,
    Integer,
    SmallInteger,
    Table,
    create_engine,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from postroom import Attachment, Message, Outbox, RecipientState, WorkerConfig
from postroom.storage import schema
from postroom.storage.engine import clock_sql, configure_sqlite, write_transaction
from postroom.storage.tables import Tables, tables
from postroom.testing.faulty_relay import FaultyRelay
from tests.integration.terminal import Terminal
from tests.services.waiting import wait_for

TABLES = ("message", "recipient", "queue", "attachment", "attempt", "suppression")
ROWS_AT_A_TIME = 50
GOOD_AT_A_TIME = 5

ODD_TEXTS = st.sampled_from(
    [
        *(
            "",
            " ",
            "a\r\nRCPT TO:<x@example.com>",
            "\x1b[2J",
            "\N{NO-BREAK SPACE}",
            "@",
            "a" * 5000,
        ),
        *("{", "[]", "null", "5", '"x"', "[1, 2]", '{"a": NaN}', '{"a": 1e999}', "[" * 3000),
        *("{}", '{"subject": {}}', '{"text": {"entry": 5, "sources": []}}', '[["X\\r\\n", "y"]]'),
        *("9999-12-31 23:59:59.999999", "0001-01-01 00:00:00.000000", "infinity", "yesterday"),
        *("queued", "sending", "in_doubt", "accepted", "rejected", "urgent", "hold", "bcc"),
        *("ada@example.com", "ada@example.com>", "relay", "text/plain\r\nX: y", "multipart/mixed"),
    ]
)
#: SQLite keeps any text, PostgreSQL any but NUL.
TEXTS = st.one_of(ODD_TEXTS, st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
NUMBERS = st.one_of(
    st.integers(-5, 20),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([2**15 - 1, -(2**15), 2**31 - 1, 253_402_300_800, 10**15]),
)
FLOATS = st.floats() | st.sampled_from([253_402_300_799.9, 1e300, -1e300, 0.0])

#: A value and how it is written: as it is, or bytes as a text.
Written = tuple[str, Any]

ON_SQLITE = st.one_of(
    st.tuples(st.just(":value"), st.one_of(st.none(), NUMBERS, FLOATS, TEXTS)),
    st.tuples(st.sampled_from([":value", "CAST(:value AS TEXT)"]), st.binary(max_size=20)),
)
ON_POSTGRESQL = {
    JSON: st.tuples(st.just("CAST(:value AS jsonb)"), ODD_TEXTS),
    DateTime: st.tuples(
        st.just("CAST(:value AS timestamptz)"),
        st.sampled_from(["infinity", "-infinity", "0001-01-01", "4000-01-01 BC", "20000-01-01"])
        | st.datetimes().map(str),
    ),
    Boolean: st.tuples(st.just(":value"), st.booleans()),
    SmallInteger: st.tuples(st.just(":value"), NUMBERS),
    Integer: st.tuples(st.just(":value"), NUMBERS),
    BigInteger: st.tuples(st.just(":value"), NUMBERS),
    Double: st.tuples(st.just(":value"), FLOATS),
}


def columns_of(table: Table) -> list[Column[Any]]:
    """Return what may be spoiled: all but the ids by which a test finds its rows."""
    return [one for one in table.c if one.name not in {"id", "position", "recipient_id", "sha256"}]


@dataclass(frozen=True)
class Spoiled:
    """A row, one column of it, and what is written there; or the row is deleted."""

    table: str
    column: str
    value: Written
    is_deleted: bool = False


def spoiled(known: Tables, backend: str) -> st.SearchStrategy[Spoiled]:
    """Return what may be done to the rows of a mail."""

    def of(table: str) -> st.SearchStrategy[Spoiled]:
        return st.sampled_from(columns_of(getattr(known, table))).flatmap(
            lambda column: st.builds(
                Spoiled,
                table=st.just(table),
                column=st.just(column.name),
                value=_values(column, backend),
                is_deleted=st.sampled_from([False] * 30 + [True]),
            )
        )

    return st.sampled_from(TABLES).flatmap(of)


def _values(column: Column[Any], backend: str) -> st.SearchStrategy[Written]:
    if backend == "sqlite":
        return ON_SQLITE
    kind = getattr(column.type, "impl_instance", column.type)
    return next(
        (values for of, values in ON_POSTGRESQL.items() if isinstance(kind, of)),
        st.tuples(st.just(":value"), TEXTS.filter(lambda one: "\0" not in one)),
    )


@dataclass
class Hospital:
    """An outbox with a worker at work, a relay, and what was written past the API."""

    outbox: Outbox
    relay: FaultyRelay
    known: Tables
    good: list[str] = field(default_factory=list)
    bad: list[int] = field(default_factory=list)

    def send(self, many: list[list[Spoiled]]) -> None:
        """Enqueue a mail for each of ``many``, and spoil it before any worker sees it.

        Behind them come mails that are as they should be.
        """
        with write_transaction(self.outbox.engine) as connection:
            mails = [(self._enqueue_bad(connection, spoils), spoils) for spoils in many]
            for _ in range(GOOD_AT_A_TIME):
                self.good.append(f"good{len(self.good)}@example.com")
                good = Message(sender="shop@example.com", subject="good", text="Hello.\n")
                self.outbox.enqueue(connection, good, to=[self.good[-1]])
            for (id, address), spoils in mails:
                for one in spoils:
                    self._spoil(connection, id, address, one)

    def _enqueue_bad(self, connection: Connection, spoils: list[Spoiled]) -> tuple[int, str]:
        address = f"bad{len(self.bad)}@example.com"
        files = [Attachment.from_bytes("a.csv", b"1,2\n")]
        message = Message(
            sender="shop@example.com", subject="bad", text="Hello.\n", attachments=files
        )
        id = self.outbox.enqueue(connection, message, to=[address]).message_id
        self.bad.append(id)
        mine = "FROM postroom_recipient WHERE message_id = :id"
        connection.execute(
            text(
                "INSERT INTO postroom_attempt (recipient_id, attempted_at, relay, outcome) "
                f"SELECT id, updated_at, 'main', 'deferred' {mine}"
            ),
            {"id": id},
        )
        if any(one.table == "suppression" for one in spoils):
            connection.execute(
                text(
                    "INSERT INTO postroom_suppression (address_key, reason, created_at) "
                    f"SELECT address_key, 'asked', updated_at {mine}"
                ),
                {"id": id},
            )
        return id, address

    def _spoil(self, connection: Connection, id: int, address: str, spoil: Spoiled) -> None:
        table = f"postroom_{spoil.table}"
        recipient = "(SELECT min(id) FROM postroom_recipient WHERE message_id = :id)"
        where = {
            "message": "id = :id",
            "recipient": f"id = {recipient}",
            "queue": f"recipient_id = {recipient}",
            "attachment": "message_id = :id",
            "attempt": f"recipient_id = {recipient}",
            "suppression": "address_key = :address",
        }[spoil.table]
        written, value = spoil.value
        statement = f"UPDATE {table} SET {spoil.column} = {written} WHERE {where}"
        if spoil.is_deleted:
            statement = f"DELETE FROM {table} WHERE {where}"
        try:
            with connection.begin_nested():
                connection.execute(text(statement), {"id": id, "address": address, "value": value})
        except (DBAPIError, OverflowError):
            pass  # even a database has things that it does not keep

    def arrived(self) -> Counter[str]:
        """Count the copies of good mails."""
        return Counter(
            to for mail in self.relay.accepted for to in mail.recipients if to in set(self.good)
        )

    def is_through(self) -> bool:
        """Return whether nothing is due that a worker could take, or holds."""
        with self.outbox.engine.connect() as connection:
            now = connection.execute(select(clock_sql(connection.dialect))).scalar_one()
            due = text(
                "SELECT count(*) FROM postroom_queue WHERE due_at <= :now "
                "OR (lease_token IS NOT NULL AND due_at <= :soon) OR lane NOT IN (0, 1, 2)"
            )
            return connection.execute(due, {"now": now, "soon": now + 10}).scalar_one() == 0

    def look(self, ids: list[int]) -> None:
        """Ask everything that can be asked of messages."""
        with Session(self.outbox.engine) as session:
            self.outbox.stats(session)
            self.outbox.search(session, limit=1000)
            self.outbox.search(session, tag="x", state=RecipientState.REJECTED)
            there = {one.id for one in self.outbox.search(session, limit=10**6)}
            for id in there & set(ids):
                self.outbox.attempts(session, id)
                for one in self.outbox.explain(session, id):
                    assert one.why


@pytest.fixture
def hospital(database_url: Any) -> Iterator[Hospital]:
    engine = create_engine(database_url)
    configure_sqlite(engine)
    schema.create(engine)
    config = WorkerConfig(lease_s=3.0, poll_interval_s=0.05, max_claims_without_outcome=1)
    with FaultyRelay() as relay:
        outbox = Outbox(relay.url, engine=engine, worker=config)
        outbox.start()
        yield Hospital(outbox, relay, tables())
        assert outbox.stop()
        outbox.close()
    engine.dispose()


@pytest.mark.timeout(3600)
def test_an_outbox_goes_on_whatever_stands_in_its_tables(
    hospital: Hospital,
    full: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = hospital.outbox.engine.url
    rows = st.lists(
        st.lists(spoiled(hospital.known, url.get_backend_name()), min_size=1, max_size=3),
        min_size=ROWS_AT_A_TIME,
        max_size=ROWS_AT_A_TIME,
    )

    @settings(
        max_examples=(10_000 if full else 200) // ROWS_AT_A_TIME,
        phases=[Phase.generate],
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(rows)
    def others_go_out(many: list[list[Spoiled]]) -> None:
        seen = len(hospital.bad)
        hospital.send(many)
        wait_for(lambda: len(hospital.arrived()) == len(hospital.good), "all good mails", 60)
        hospital.look(hospital.bad[seen:])

    others_go_out()
    wait_for(hospital.is_through, "the end of what is due", 120)
    assert hospital.arrived() == Counter(hospital.good)
    hospital.look(hospital.bad)
    type_commands(hospital, Terminal(monkeypatch, capsys), most=100 if full else 20)
    pruned = hospital.outbox.prune(timedelta(0))
    assert pruned.messages >= len(hospital.good)


def type_commands(hospital: Hospital, terminal: Terminal, *, most: int) -> None:
    """Look at ``most`` messages as a person would, and as a script would."""
    url = hospital.outbox.engine.url.render_as_string(hide_password=False)
    terminal.set(database_url=url, relay=hospital.relay.url)
    for form in ((), ("--json",)):
        terminal.run("stats", *form)
        terminal.run("search", "--limit", "100000", *form)
    with Session(hospital.outbox.engine) as session:
        there = [one.id for one in hospital.outbox.search(session, limit=most)]
    for id in there:
        terminal.run("status", str(id), "--transcript")
        terminal.run("status", str(id), "--json")
        terminal.run("explain", str(id))
