"""``status``, ``list``, ``show`` and ``explain`` answer what people ask at 3 a.m."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing

import pytest
from sqlalchemy import make_url

from postroom.states import Phase
from postroom.testing import FaultyRelay
from tests.integration.terminal import Terminal

ADA, BOB = "ada@example.com", "bob@example.com"


@pytest.fixture
def used(terminal: Terminal, relay: FaultyRelay) -> Terminal:
    """Two messages: one accepted by Ada's relay and rejected by Bob's, one for later."""
    relay.on(Phase.RCPT, "550 5.1.1 no such user", address=BOB)
    terminal.run("send", "--to", ADA, "--to", BOB, "--subject", "One", "--text", "1", "--tag", "a")
    terminal.run("worker", "--drain")
    terminal.run(
        "send",
        "--to",
        ADA,
        "--subject",
        "Two",
        "--text",
        "2",
        "--at",
        "+1h",
        "--idempotency-key",
        "k",
    )
    return terminal


def test_status_counts_by_state(used: Terminal) -> None:
    shown = used.run("stats")
    assert {"queued 1", "accepted 1", "rejected 1", "0 due now"} <= set(shown.lines)
    counts = used.run("stats", "--json").json
    assert counts["by_state"] == {"queued": 1, "accepted": 1, "rejected": 1}


def test_status_says_how_long_the_oldest_due_one_waits(terminal: Terminal) -> None:
    terminal.run("send", "--to", ADA, "--text", "hi")
    assert any(
        line.startswith("1 due now, the oldest for ") for line in terminal.run("stats").lines
    )


def test_an_empty_outbox_says_so(terminal: Terminal) -> None:
    assert "nothing in the outbox" in terminal.run("stats").out
    assert terminal.run("search").out == "no message\n"
    assert terminal.run("search", "--json").json == []


def test_status_can_be_watched_until_ctrl_c(
    used: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def interrupted_at_the_second(duration_s: float) -> None:
        pauses.append(duration_s)
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted_at_the_second)
    shown = used.run("stats", "--watch", "--every", "2", code=130)
    assert pauses == [2.0, 2.0]
    assert "rejected" in shown.out


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ((), [2, 1]),
        (("--state", "rejected"), [1]),
        (("--state", "queued"), [2]),
        (("--address", "ADA@example.com"), [2, 1]),
        (("--address", BOB), [1]),
        (("--tag", "a"), [1]),
        (("--idempotency-key", "k"), [2]),
        (("--lane", "bulk"), []),
        (("--limit", "1"), [2]),
        (("--before-id", "2"), [1]),
    ],
)
def test_a_list_holds_what_was_asked_for(
    used: Terminal, filters: tuple[str, ...], found: list[int]
) -> None:
    assert [message["id"] for message in used.run("search", *filters, "--json").json] == found


def test_a_list_for_people_is_a_line_a_message(used: Terminal) -> None:
    head, second, first = used.run("search").lines
    assert head == "id created_at state recipients subject"
    assert second.startswith("2 ")
    assert second.endswith("queued 1 Two")
    assert first.endswith("rejected 2 One")


def test_status_tells_every_recipient_attempt_and_reply(used: Terminal) -> None:
    lines = used.run("status", "1").lines
    assert f"{ADA} accepted 1 - 250 2.0.0 accepted" in lines
    assert f"{BOB} rejected 1 - 550 5.1.1 no such user" in lines
    assert any(line.endswith("rcpt rejected 550 5.1.1 no such user") for line in lines)


def test_status_has_the_conversation_that_failed(used: Terminal) -> None:
    assert "RCPT TO" not in used.run("status", "1").out
    shown = used.run("status", "1", "--transcript")
    assert f"RCPT TO:<{BOB}>" in shown.out


def test_explain_says_why_and_when(used: Terminal) -> None:
    (why,) = used.run("explain", "2", "--json").json
    assert (why["address"], why["state"]) == (ADA, "queued")
    assert why["next_at"] is not None
    assert "scheduled" in used.run("explain", "2").out
    assert "no such user" in used.run("explain", "1").out


@pytest.mark.parametrize("command", ["status", "explain", "cancel", "retry", "preview"])
def test_a_message_that_does_not_exist_is_not_found(terminal: Terminal, command: str) -> None:
    assert "99" in terminal.fails(4, command, "99")


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("scheduled_at", "9999-12-31 23:59:59.999999", "9999-12-31 23:59:59Z"),
        ("created_at", "0001-01-01 00:00:00.000000", "1-01-01 00:00:00Z"),
        ("expires_at", "the day after", "unreadable: 'the day after'"),
        ("created_at", "infinity", "unreadable: 'infinity'"),
    ],
)
def test_show_survives_every_date(terminal: Terminal, column: str, value: str, shown: str) -> None:
    terminal.run("send", "--to", ADA, "--text", "hi")
    _write(terminal, f"UPDATE postroom_message SET {column} = ?", value)
    _write(terminal, "UPDATE postroom_queue SET due_at = ?", 253_402_300_800.0)
    _write(terminal, "UPDATE postroom_recipient SET updated_at = ?", value)
    assert shown.lstrip("0") in terminal.run("status", "1").out
    assert terminal.run("explain", "1").lines[1].startswith(f"{ADA} queued")
    assert terminal.run("search", "--json").json[0]["subject"] == ""
    assert terminal.run("status", "1", "--json").json["message"]["id"] == 1


def test_what_is_no_text_is_shown_with_replacement_characters(terminal: Terminal) -> None:
    terminal.run("send", "--to", ADA, "--subject", "Hi", "--text", "hi")
    _write(terminal, "UPDATE postroom_message SET subject = CAST(? AS TEXT)", b"H\xff")
    _write(
        terminal, "UPDATE postroom_recipient SET state = 'lost', name = CAST(? AS TEXT)", b"\xff"
    )
    assert terminal.run("search").lines[1].endswith("lost 1 H\N{REPLACEMENT CHARACTER}")
    assert "lost 1" in terminal.run("stats").lines
    assert "does not know" in terminal.run("explain", "1").out


def test_status_counts_what_was_set_aside(terminal: Terminal) -> None:
    terminal.run("send", "--to", ADA, "--text", "hi")
    _write(terminal, "UPDATE postroom_recipient SET variables = ?", "{broken")
    terminal.run("worker", "--drain")
    assert any("1 of the rejected were set aside" in line for line in terminal.run("stats").lines)
    assert "recipient.variables" in terminal.run("explain", "1").out
    _write(terminal, "UPDATE postroom_recipient SET variables = ?", None)
    terminal.run("retry", "1")
    terminal.run("worker", "--drain")
    assert terminal.run("stats", "--json").json["by_state"] == {"accepted": 1}


def _write(terminal: Terminal, statement: str, value: object) -> None:
    """Write past every check, as another program would."""
    path = make_url(os.environ["POSTROOM_DATABASE_URL"]).database
    with closing(sqlite3.connect(path or "")) as connection, connection:
        connection.execute(statement, (value,))
