"""``postroom worker``: stops when it should, gently, and logs one mail's whole story."""

from __future__ import annotations

import json
import signal

import pytest

from postroom import Message, Outbox
from postroom.states import Phase
from postroom.storage.engine import write_transaction
from postroom.testing import FaultyRelay
from tests.integration.terminal import Terminal

TO_ADA = ("send", "--to", "ada@example.com", "--subject", "Hello", "--text", "Is it there?")


def states(terminal: Terminal) -> list[str]:
    return [message["state"] for message in terminal.run("search", "--json").json]


def test_drain_sends_what_is_due_and_leaves_what_is_not(
    terminal: Terminal, relay: FaultyRelay
) -> None:
    terminal.run(*TO_ADA)
    terminal.run(*TO_ADA, "--at", "+1h")
    terminal.run("worker", "--drain")
    assert states(terminal) == ["queued", "accepted"]
    assert len(relay.accepted) == 1


def test_drain_does_not_wait_for_a_retry(terminal: Terminal, relay: FaultyRelay) -> None:
    relay.on(Phase.RCPT, "451 4.7.1 come back later")
    terminal.run(*TO_ADA)
    terminal.run("worker", "--drain")
    assert states(terminal) == ["deferred"]


def test_until_empty_waits_for_the_retry(terminal: Terminal, relay: FaultyRelay) -> None:
    relay.on(Phase.RCPT, "451 4.7.1 greylisted", times=1)
    outbox = Outbox.from_env()
    with write_transaction(outbox.engine) as connection:
        message = Message(text="Is it there?", retry_delays_s=[0.1])
        outbox.enqueue(connection, message, to=["ada@example.com"])
    outbox.close()
    terminal.run("worker", "--until-empty")
    assert states(terminal) == ["accepted"]


def test_the_log_tells_one_mails_story_in_json(terminal: Terminal, relay: FaultyRelay) -> None:
    relay.on(Phase.RCPT, "550 5.1.1 no such user")
    terminal.run(*TO_ADA)
    shown = terminal.run("worker", "--drain", "--log-format", "json")
    events = [json.loads(line) for line in shown.err.splitlines()]
    (story,) = [event for event in events if event.get("recipient") == "ada@example.com"]
    assert story["message_id"] == 1
    assert story["state"] == "rejected"
    assert story["code"] == 550
    assert story["relay"]


def test_sigterm_ends_a_worker_in_order(terminal: Terminal, relay: FaultyRelay) -> None:
    terminal.run(*TO_ADA)
    with terminal.started("worker") as process:
        relay.wait_for(1, timeout_s=60)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0
    first, story, last = said.splitlines()
    assert " info worker started " in first
    assert " info accepted " in story
    assert last.endswith(" info worker stopped")
    assert states(terminal) == ["accepted"]


@pytest.mark.parametrize("stops", [("--drain", "--until-empty"), ("--drian",)])
def test_a_wrong_command_line_is_refused(terminal: Terminal, stops: tuple[str, ...]) -> None:
    assert "--drain" in terminal.fails(2, "worker", *stops)


def test_without_a_relay_it_says_what_to_set(terminal: Terminal) -> None:
    terminal.set(relay="")
    assert "POSTROOM_RELAY" in terminal.fails(3, "worker", "--drain")
