"""Dry runs and redirected mail, through a real worker."""

from __future__ import annotations

import subprocess
import sys
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from postroom import Message, Outbox, Phase, Receipt, RecipientState
from postroom.testing import FaultyRelay, ServerOptions

ADA, BOB = "ada@example.com", "bob@example.com"
STAGING = "staging@example.com"


def outbox_of(engine: Engine, relay: str, **options: Any) -> Outbox:
    return Outbox(relay, engine=engine, sender="shop@example.com", **options)


def enqueue(outbox: Outbox, *to: str, **message: Any) -> Receipt:
    with Session(outbox.engine) as session, session.begin():
        said = Message(**({"subject": "Hi", "text": "Hello\n"} | message))
        return outbox.enqueue(session, said, to=to)


def recorded(outbox: Outbox, receipt: Receipt) -> dict[str, tuple[RecipientState, str | None]]:
    with Session(outbox.engine) as session:
        status = outbox.status(session, receipt)
    return {one.address: (one.state, one.reply) for one in status.recipients}


def test_discarded_mail_is_recorded_as_such(engine: Engine) -> None:
    outbox = outbox_of(engine, "null://")
    receipt = enqueue(outbox, ADA, BOB)
    outbox.worker().drain()
    told = (RecipientState.ACCEPTED, "250 2.0.0 dry run: discarded")
    assert recorded(outbox, receipt) == {ADA: told, BOB: told}
    outbox.close()


def test_every_copy_is_a_file_and_a_mail_sent_together_one(engine: Engine, tmp_path: Path) -> None:
    outbox = outbox_of(engine, f"file://{tmp_path}/out")
    enqueue(outbox, ADA, BOB)
    enqueue(outbox, ADA, BOB, shared=True)
    outbox.worker().drain()
    mails = [message_from_bytes(path.read_bytes()) for path in (tmp_path / "out").iterdir()]
    delivered = sorted(mail.get_all("Delivered-To", []) for mail in mails)
    assert delivered == [[ADA], [ADA, BOB], [BOB]]
    assert {mail["Subject"] for mail in mails} == {"Hi"}
    outbox.close()


def test_the_console_shows_each_mail_once(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    outbox = outbox_of(engine, "console://")
    for number in range(20):
        enqueue(outbox, f"user{number}@example.com", subject=f"Number {number}")
    outbox.worker().drain()
    shown = capsys.readouterr().out
    assert sorted(line for line in shown.splitlines() if line.startswith("Subject")) == sorted(
        f"Subject: Number {number}" for number in range(20)
    )
    outbox.close()


def test_redirected_mail_reaches_nobody_else(engine: Engine, relay: FaultyRelay) -> None:
    outbox = outbox_of(engine, relay.url, redirect_all_to=f"Staging <{STAGING}>")
    receipt = enqueue(outbox, ADA, BOB)
    outbox.worker().drain()
    assert [mail.recipients for mail in relay.accepted] == [(STAGING,)] * 2
    meant = {message_from_bytes(mail.content)["X-Redirected-From"] for mail in relay.accepted}
    assert meant == {ADA, BOB}
    assert {state for state, _ in recorded(outbox, receipt).values()} == {RecipientState.ACCEPTED}
    outbox.close()


@pytest.mark.parametrize(
    "options", [ServerOptions(), ServerOptions(is_lmtp=True)], ids=["smtp", "lmtp"]
)
def test_a_mail_sent_together_is_redirected_once(engine: Engine, options: ServerOptions) -> None:
    with FaultyRelay(options) as relay:
        outbox = outbox_of(engine, relay.url, redirect_all_to=STAGING)
        receipts = [enqueue(outbox, ADA, BOB, shared=True) for _ in range(3)]
        outbox.worker().drain()
        assert [mail.recipients for mail in relay.accepted] == [(STAGING,)] * 3
        mail = message_from_bytes(relay.accepted[0].content)
    assert mail.get_all("X-Redirected-From") == [ADA, BOB]
    assert mail["To"] == f"{ADA}, {BOB}"
    for receipt in receipts:
        assert {state for state, _ in recorded(outbox, receipt).values()} == {
            RecipientState.ACCEPTED
        }
    outbox.close()


def test_what_the_one_address_is_refused_is_recorded_for_everyone(
    engine: Engine, relay: FaultyRelay
) -> None:
    relay.on(Phase.RCPT, "550 5.1.1 no such user", address=STAGING)
    outbox = outbox_of(engine, relay.url, redirect_all_to=STAGING)
    receipt = enqueue(outbox, ADA, BOB, shared=True)
    outbox.worker().drain()
    told = (RecipientState.REJECTED, "550 5.1.1 no such user")
    assert recorded(outbox, receipt) == {ADA: told, BOB: told}
    outbox.close()


def test_a_redirected_mail_that_grows_too_large_is_not_begun(engine: Engine) -> None:
    with FaultyRelay(ServerOptions(extensions=("PIPELINING", "SIZE 300"))) as relay:
        outbox = outbox_of(engine, relay.url, redirect_all_to=STAGING)
        receipt = enqueue(outbox, ADA, text="x" * 400)
        outbox.worker().drain()
        assert relay.accepted == []
    ((state, _),) = recorded(outbox, receipt).values()
    assert state is RecipientState.REJECTED
    outbox.close()


_SHOW = """
import sys
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from postroom import Message, Outbox
outbox = Outbox.from_env()
outbox.create_tables()
with Session(outbox.engine) as session, session.begin():
    outbox.enqueue(session, Message(subject="Grüße", text="Schön"), to=["ada@example.com"])
outbox.worker().drain()
"""


def test_a_terminal_that_knows_only_ascii_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTROOM_DATABASE_URL", f"sqlite:///{tmp_path}/mail.db")
    monkeypatch.setenv("POSTROOM_RELAY", "console://")
    monkeypatch.setenv("POSTROOM_SENDER", "shop@example.com")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = subprocess.run([sys.executable, "-c", _SHOW], capture_output=True, text=True, check=True)
    assert "Subject: Gr??e" in done.stdout
