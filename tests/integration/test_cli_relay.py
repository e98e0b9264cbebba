"""``postroom relay check`` shows each step, and the likely cause of the one that fails."""

from __future__ import annotations

from email import message_from_bytes
from email.policy import default

import pytest

from postroom.states import Phase
from postroom.testing import FaultyRelay, Misbehavior, ServerOptions
from tests.integration.terminal import SECRET, Terminal


def test_every_step_of_a_relay_that_is_well_is_shown(
    terminal: Terminal, relay: FaultyRelay
) -> None:
    lines = terminal.run("relay", "check").lines
    assert f"ok resolve 127.0.0.1:{relay.port}" in lines
    assert any(line.startswith("ok greeting 220 ") for line in lines)
    assert any(line.startswith("ok extensions ") and "PIPELINING" in line for line in lines)
    assert "ok TLS clear text, as the URL allows" in lines
    assert relay.accepted == []


def test_a_mail_is_sent_where_it_is_asked_for(terminal: Terminal, relay: FaultyRelay) -> None:
    terminal.run("relay", "check", "--to", "ada@example.com")
    (mail,) = relay.accepted
    message = message_from_bytes(mail.content, policy=default)
    assert (message["From"], message["To"]) == ("shop@example.com", "ada@example.com")
    assert terminal.stored() == 0


def test_a_login_is_tried_and_its_password_not_shown(terminal: Terminal) -> None:
    with FaultyRelay(ServerOptions(credentials={"shop": SECRET})) as relay:
        terminal.set(relay=relay.url)
        lines = terminal.run("relay", "check").lines
        assert any(line.startswith("ok login shop by ") for line in lines)
        terminal.set(relay=relay.url.replace(SECRET, f"not-{SECRET}"))
        shown = terminal.run("relay", "check", code=1)
    assert any(line.startswith("failed login ") for line in shown.lines)
    assert "wrong or expired" in shown.out


def test_a_refused_recipient_is_a_failure(terminal: Terminal, relay: FaultyRelay) -> None:
    relay.on(Phase.RCPT, "550 5.1.1 no such user")
    shown = terminal.run("relay", "check", "--to", "ada@example.com", code=1)
    assert "failed mail ada@example.com rejected: 550 5.1.1 no such user" in shown.lines


def test_a_relay_that_is_away_is_a_failure_with_its_cause(terminal: Terminal) -> None:
    terminal.set(relay="smtp://127.0.0.1:1?tls=off")
    shown = terminal.run("relay", "check", code=1)
    assert any(line.startswith("failed connect ") for line in shown.lines)
    assert "the relay is down" in shown.out


def test_a_relay_that_hangs_up_is_a_failure(terminal: Terminal, relay: FaultyRelay) -> None:
    relay.on(Phase.EHLO, Misbehavior.CLOSE)
    shown = terminal.run("relay", "check", "--json", code=1)
    ((*_, last),) = shown.json.values()
    assert (last["name"], last["ok"]) == ("extensions", False)


def test_one_relay_of_several_is_looked_at_by_its_name(
    terminal: Terminal, relay: FaultyRelay
) -> None:
    terminal.set(relay=f'{{"main": "smtp://127.0.0.1:1?tls=off", "spare": "{relay.url}"}}')
    assert list(terminal.run("relay", "check", "spare", "--json").json) == ["spare"]
    assert list(terminal.run("relay", "check", "--json", code=1).json) == ["main", "spare"]
    assert "main, spare" in terminal.fails(4, "relay", "check", "other")


@pytest.mark.parametrize(("setting", "to"), [("relay", ()), ("sender", ("--to", "a@b.example"))])
def test_what_is_not_set_is_named(terminal: Terminal, setting: str, to: tuple[str, ...]) -> None:
    terminal.set(**{setting: ""})
    assert f"POSTROOM_{setting.upper()}" in terminal.fails(3, "relay", "check", *to)


def test_relay_alone_shows_help(terminal: Terminal) -> None:
    shown = terminal.run("relay", code=2)
    assert "check" in shown.out
    assert shown.err == ""
