"""``retry``, ``cancel``, ``resolve``, ``suppress`` and ``prune``: what a person decides."""

from __future__ import annotations

import pytest

from postroom.states import Phase
from postroom.testing import FaultyRelay, Misbehavior
from tests.integration.terminal import Terminal

ADA, BOB = "ada@example.com", "bob@example.com"


@pytest.fixture
def rejected(terminal: Terminal, relay: FaultyRelay) -> Terminal:
    """Message 1 was accepted for Ada and rejected for Bob, whose mailbox works again."""
    relay.on(Phase.RCPT, "550 5.1.1 no such user", address=BOB, times=1)
    terminal.run("send", "--to", ADA, "--to", BOB, "--text", "hi")
    terminal.run("worker", "--drain")
    return terminal


@pytest.fixture
def in_doubt(terminal: Terminal, relay: FaultyRelay) -> Terminal:
    """Message 1 is held: nobody knows whether the relay has it."""
    terminal.set(on_doubt="hold")
    relay.on(Phase.DOT, Misbehavior.CLOSE, times=1)
    terminal.run("send", "--to", ADA, "--text", "hi")
    terminal.run("worker", "--drain")
    assert states(terminal) == {ADA: "in_doubt"}
    return terminal


def states(terminal: Terminal) -> dict[str, str]:
    message = terminal.run("status", "1", "--json").json["message"]
    return {one["address"]: one["state"] for one in message["recipients"]}


def test_retry_sends_again_to_those_that_failed_only(
    rejected: Terminal, relay: FaultyRelay
) -> None:
    assert rejected.run("retry", "1").out == f"{BOB}: will be tried again\n"
    rejected.run("worker", "--drain")
    assert states(rejected) == {ADA: "accepted", BOB: "accepted"}
    assert [mail.recipients for mail in relay.accepted] == [(ADA,), (BOB,)]


def test_retry_may_be_for_one_recipient(rejected: Terminal) -> None:
    rejected.fails(5, "retry", "1", "--to", ADA)
    assert rejected.run("retry", "1", "--to", BOB, "--json").json == {"recipients": [BOB]}


def test_a_message_is_cancelled_before_it_is_sent(terminal: Terminal, relay: FaultyRelay) -> None:
    terminal.run("send", "--to", ADA, "--text", "hi")
    assert terminal.run("cancel", "1").out == f"{ADA}: cancelled\n"
    terminal.run("worker", "--drain")
    assert relay.accepted == []
    assert "nothing left to cancel" in terminal.fails(5, "cancel", "1")


def test_it_is_too_late_to_cancel_what_was_sent(rejected: Terminal) -> None:
    assert rejected.run("cancel", "1", code=5).out == f"{ADA}: too late\n"
    assert rejected.run("cancel", "1", "--json", code=5).json == {
        "cancelled": [],
        "too_late": [ADA],
    }


def test_in_doubt_is_resolved_as_sent(in_doubt: Terminal, relay: FaultyRelay) -> None:
    assert in_doubt.run("resolve", "1", "--sent").out == f"{ADA}: accepted\n"
    assert states(in_doubt) == {ADA: "accepted"}
    in_doubt.run("worker", "--drain")
    assert relay.connections == 1


def test_in_doubt_is_resolved_by_sending_again(in_doubt: Terminal, relay: FaultyRelay) -> None:
    assert in_doubt.run("resolve", "1", "--resend").out == f"{ADA}: will be sent again\n"
    in_doubt.run("worker", "--drain")
    assert states(in_doubt) == {ADA: "accepted"}


def test_resolve_needs_a_decision_and_a_doubt(rejected: Terminal) -> None:
    assert "--sent or --resend" in rejected.fails(2, "resolve", "1")
    assert "in doubt" in rejected.fails(5, "resolve", "1", "--sent")


def test_a_suppressed_address_is_not_written_to(terminal: Terminal, relay: FaultyRelay) -> None:
    terminal.run("send", "--to", ADA, "--text", "hi")
    terminal.run("suppress", "Ada@EXAMPLE.com", "--reason", "asked by phone")
    terminal.run("worker", "--drain")
    assert states(terminal) == {ADA: "suppressed"}
    assert "asked by phone" in terminal.run("explain", "1").out
    terminal.run("unsuppress", ADA)
    terminal.run("retry", "1")
    terminal.run("worker", "--drain")
    assert [mail.recipients for mail in relay.accepted] == [(ADA,)]


def test_what_is_not_suppressed_is_not_found(terminal: Terminal) -> None:
    assert ADA in terminal.fails(4, "unsuppress", ADA)
    assert "nobody" in terminal.fails(6, "suppress", "nobody")


def test_prune_deletes_what_is_final_and_old(rejected: Terminal) -> None:
    rejected.run("send", "--to", ADA, "--text", "waits")
    assert rejected.run("prune", "--older-than", "30d", "--json").json["messages"] == 0
    assert "1 messages" in rejected.run("prune", "--older-than", "0s").out
    assert [message["id"] for message in rejected.run("search", "--json").json] == [2]


@pytest.mark.parametrize("age", ["thirty", "30", "-1d"])
def test_an_age_is_a_number_and_a_unit(terminal: Terminal, age: str) -> None:
    assert "30d" in terminal.fails(2, "prune", "--older-than", age)
