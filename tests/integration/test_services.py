"""The throw-away servers are what the other tests take them for."""

from __future__ import annotations

import smtplib

from sqlalchemy import Engine, inspect, text

from postroom.storage.models import Tables
from tests.services.postfix import Postfix, SmtpSink
from tests.services.postgresql import Postgresql
from tests.services.redis import Redis
from tests.services.waiting import listens, wait_for


def test_an_engine_finds_the_tables_in_a_database_of_its_own(
    engine: Engine, tables: Tables
) -> None:
    with engine.connect() as connection:
        assert inspect(connection).has_table(tables.message.name)
        assert not connection.execute(tables.message.select()).all()


def test_both_engines_see_the_same_database(engine: Engine, worker_engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE mark (value INTEGER)"))
    with worker_engine.connect() as connection:
        assert inspect(connection).has_table("mark")


def test_postgresql_keeps_what_was_committed_through_a_crash(postgres: Postgresql) -> None:
    postgres.execute("CREATE TABLE IF NOT EXISTS kept (value integer)")
    postgres.execute("INSERT INTO kept VALUES (%s)", 7)
    postgres.restart("immediate")
    assert postgres.execute("SELECT value FROM kept") == [(7,)]
    postgres.execute("DROP TABLE kept")


def test_redis_comes_back_on_the_same_port(redis_server: Redis) -> None:
    redis_server.restart()
    assert listens(redis_server.port)


def test_postfix_stores_what_it_accepts(postfix: Postfix) -> None:
    before = len(postfix.received())
    with smtplib.SMTP("127.0.0.1", postfix.port, timeout=10) as client:
        recipients = ["someone@example.com", "unknown@example.com"]
        refused = client.sendmail("shop@example.com", recipients, "Subject: Hello\r\n\r\nHello\r\n")
    assert [code for code, _ in refused.values()] == [550]
    stored = wait_for(lambda: postfix.received()[before:], "the mail in the maildir")
    assert "Subject: Hello" in stored[0].read_text()


def test_the_sink_accepts_everything(smtp_sink: SmtpSink) -> None:
    with smtplib.SMTP("127.0.0.1", smtp_sink.port, timeout=10) as client:
        assert client.sendmail("a@example.com", ["b@example.com"], "Subject: x\r\n\r\nx\r\n") == {}
