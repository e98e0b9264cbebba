"""Whatever is wrong is said in a line or two, with what to do and without a secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from postroom.states import Phase
from postroom.testing import FaultyRelay, Misbehavior
from tests.integration.terminal import SECRET, Terminal

#: Nobody listens there (RFC 6335 reserves it).
NOWHERE = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "POSTROOM_DATABASE_URL"),
        (f"nonsense {SECRET}", "sqlite:///shop.db"),
        (f"mysql://shop:{SECRET}@db/shop", "mysql"),
        (f"postgresql://shop:{SECRET}@{NOWHERE}/shop", "check host and port"),
        (f"postgresql://shop:{SECRET}@no-such-host.invalid/shop", "check the host name"),
        ("sqlite:///missing/folder/mail.db", "missing/folder"),
        ("sqlite://", "in memory"),
    ],
)
def test_a_database_that_cannot_be_used_is_named(
    bare_terminal: Terminal, url: str, said: str
) -> None:
    bare_terminal.set(database_url=url)
    assert said in bare_terminal.fails(3, "stats")


def test_a_file_that_is_no_database_is_named(bare_terminal: Terminal) -> None:
    Path("mail.db").write_text("Dear diary, " * 100)
    bare_terminal.set(database_url="sqlite:///mail.db")
    assert "mail.db" in bare_terminal.fails(3, "stats")


def test_a_wrong_password_on_postgresql_is_named_and_not_shown(
    bare_terminal: Terminal, postgresql_url: URL
) -> None:
    wrong = postgresql_url.set(username="stranger", password=SECRET)
    bare_terminal.set(database_url=wrong.render_as_string(hide_password=False))
    assert "stranger" in bare_terminal.fails(3, "send", "--to", "ada@example.com", "--text", "hi")


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("relay", f"smtp://shop:{SECRET}@smtp.example.com?tsl=off", "did you mean tls"),
        ("relay", f"http://shop:{SECRET}@smtp.example.com", "http"),
        ("relay", f"smtp://shop:{SECRET}@", "relay URL"),
        ("sendr", "shop@example.com", "did you mean POSTROOM_SENDER"),
        ("connections_per_relay", "many", "'many'"),
        ("sender", "nobody", "nobody"),
        ("templates", "missing", "missing"),
    ],
)
def test_a_wrong_setting_is_named(terminal: Terminal, setting: str, value: str, said: str) -> None:
    terminal.set(**{setting: value})
    assert said in terminal.fails(3, "send", "--to", "ada@example.com", "--text", "hi")


def test_an_unknown_setting_in_the_file_is_named(terminal: Terminal) -> None:
    Path("postroom.toml").write_text(f'rely = "smtp://shop:{SECRET}@smtp.example.com"\n')
    said = terminal.fails(3, "stats")
    assert "postroom.toml" in said
    assert "'rely'; did you mean relay?" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["wroker"], "'worker'"),
        (["worker", "--drian"], "--drain"),
        (["relay", "chekc"], "'check'"),
        (["status"], "ID"),
        (["status", "one"], "ID"),
        (["search", "--state", "gone"], "'rejected'"),
    ],
)
def test_a_wrong_command_line_is_named_with_the_nearest(
    terminal: Terminal, line: list[str], said: str
) -> None:
    assert said in terminal.fails(2, *line)


def test_a_relay_that_does_not_answer_loses_nothing(terminal: Terminal) -> None:
    terminal.set(relay=f"smtp://shop:{SECRET}@{NOWHERE}?auth_over_clear=yes&tls=off")
    asked = ("send", "--to", "ada@example.com", "--text", "hi", "--wait", "--timeout", "1s")
    shown = terminal.run(*asked, code=1)
    assert "refused" in shown.out
    assert "Traceback" not in shown.out + shown.err
    (message,) = terminal.run("search", "--json").json
    assert message["state"] in {"queued", "deferred"}


def test_a_relay_that_hangs_up_loses_nothing(terminal: Terminal, relay: FaultyRelay) -> None:
    relay.on(Phase.GREETING, Misbehavior.CLOSE)
    asked = ("send", "--to", "ada@example.com", "--text", "hi", "--wait", "--timeout", "1s")
    shown = terminal.run(*asked, code=1)
    assert "Traceback" not in shown.out + shown.err
    assert terminal.stored() == 1


def test_with_traceback_an_error_shows_where_it_comes_from(bare_terminal: Terminal) -> None:
    bare_terminal.set(database_url="sqlite://")
    with pytest.raises(ValueError, match="in memory"):
        bare_terminal.run("--traceback", "stats")


def test_a_defect_is_called_one(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, session: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("postroom.outbox.Outbox.stats", broken)
    said = terminal.fails(70, "stats")
    assert "a defect: ZeroDivisionError: by nothing" in said


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [(OperationalError, 7, "database is locked"), (ProgrammingError, 70, "a defect")],
)
def test_a_database_that_fails_meanwhile_shows_no_statement(
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[DBAPIError],
    code: int,
    said: str,
) -> None:
    def failing(self: object, session: object) -> None:
        raise kind("INSERT INTO mail", {"text": SECRET}, Exception("database is locked"))

    monkeypatch.setattr("postroom.outbox.Outbox.stats", failing)
    text = terminal.fails(code, "stats")
    assert said in text
    assert "INSERT" not in text


def test_a_file_that_cannot_be_written_is_named(terminal: Terminal) -> None:
    terminal.run("send", "--to", "ada@example.com", "--text", "hi")
    assert "missing/mail.eml" in terminal.fails(6, "preview", "1", "--out", "missing/mail.eml")


def test_the_version_is_shown(bare_terminal: Terminal) -> None:
    assert bare_terminal.run("--version").out.startswith("postroom ")


def test_without_a_command_there_is_help(bare_terminal: Terminal) -> None:
    assert "Send and deliver" in bare_terminal.run().out
