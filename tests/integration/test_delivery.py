"""Mail from an application's transaction to a relay, on both databases."""

from __future__ import annotations

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from postroom import Message, Outbox, RecipientState
from tests.services.postfix import SmtpSink


def test_what_was_committed_goes_out_and_is_recorded(engine: Engine, smtp_sink: SmtpSink) -> None:
    outbox = Outbox(f"smtp://127.0.0.1:{smtp_sink.port}?tls=off", engine=engine)
    with Session(engine) as session, session.begin():
        receipt = outbox.enqueue(
            session,
            Message(sender="shop@example.com", subject="Order A-1", text="Thank you."),
            to=["ada@example.com", "Bob <bob@example.com>"],
        )
    outbox.worker().drain()
    with Session(engine) as session:
        status = outbox.status(session, receipt)
        assert [recipient.state for recipient in status.recipients] == [
            RecipientState.ACCEPTED,
            RecipientState.ACCEPTED,
        ]
        assert [attempt.code for attempt in outbox.attempts(session, receipt)] == [250, 250]
