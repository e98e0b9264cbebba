"""``init`` and ``db``: from nothing to an outbox, and what is said where something is wrong."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, text

from postroom.config.settings import Settings
from postroom.storage.tables import tables
from postroom.testing import FaultyRelay
from tests.integration.terminal import SECRET, Terminal


def shown_url(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def execute(url: URL, statement: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_init_makes_an_outbox_that_sends(bare_terminal: Terminal, relay: FaultyRelay) -> None:
    options = ("--relay", relay.url, "--sender", "Shop <shop@example.com>")
    shown = bare_terminal.run("init", *options)
    assert shown.lines[0].startswith("postroom.toml written")
    bare_terminal.run("send", "--to", "ada@example.com", "--text", "hi", "--wait")
    (mail,) = relay.accepted
    assert b"From: Shop <shop@example.com>" in mail.content


def test_the_file_that_init_writes_explains_every_setting_and_is_private(
    bare_terminal: Terminal,
) -> None:
    bare_terminal.run("init", "--relay", f"smtp://u:{SECRET}@smtp.example.com", "--no-tables")
    file = Path("postroom.toml")
    written = file.read_text()
    assert all(f"{name} = " in written or f"[{name}]" in written for name in Settings.model_fields)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not Path("postroom.db").exists()


def test_every_example_in_the_file_is_a_setting_that_can_be_used(bare_terminal: Terminal) -> None:
    bare_terminal.run("init", "--no-tables")
    file = Path("postroom.toml")
    lines = file.read_text().splitlines()
    settings = [line.removeprefix("# ") for line in lines if " = " in line or line[:3] == "# ["]
    file.write_text("\n".join(settings))
    settings_read = Settings.load()
    assert settings_read.database_schema == "mail"
    assert settings_read.relay_by_lane == {"bulk": "marketing"}


def test_init_keeps_a_file_that_stands(bare_terminal: Terminal) -> None:
    bare_terminal.run("init")
    Path("postroom.toml").write_text('database_url = "sqlite:///other.db"\n')
    assert "is kept" in bare_terminal.run("init").out
    assert Path("other.db").exists()
    assert "--force" in bare_terminal.fails(5, "init", "--sender", "shop@example.com")
    bare_terminal.run("init", "--sender", "shop@example.com", "--force")
    assert Settings.load().sender == "shop@example.com"


def test_config_names_another_file(bare_terminal: Terminal) -> None:
    bare_terminal.run("--config", "other.toml", "init", "--no-tables")
    assert Path("other.toml").exists()
    assert "missing.toml" in bare_terminal.fails(3, "--config", "missing.toml", "stats")


@pytest.mark.parametrize("command", ["create", "upgrade"])
def test_the_tables_are_made_once_and_checked(
    bare_terminal: Terminal, database_url: URL, command: str
) -> None:
    bare_terminal.set(database_url=shown_url(database_url))
    bare_terminal.run("db", command)
    bare_terminal.run("db", command)
    bare_terminal.run("db", "check")
    bare_terminal.run("stats")


def test_without_tables_a_command_says_what_to_run(
    bare_terminal: Terminal, database_url: URL
) -> None:
    bare_terminal.set(database_url=shown_url(database_url))
    assert "postroom db upgrade" in bare_terminal.fails(3, "stats")
    assert "postroom db upgrade" in bare_terminal.fails(3, "db", "check")


@pytest.mark.parametrize(
    ("damage", "lacking"),
    [
        ("ALTER TABLE postroom_message DROP COLUMN tags", "postroom_message.tags"),
        ("DROP TABLE postroom_suppression", "postroom_suppression"),
    ],
)
def test_what_somebody_removed_from_the_tables_is_named_by_every_command(
    bare_terminal: Terminal, database_url: URL, damage: str, lacking: str
) -> None:
    bare_terminal.set(database_url=shown_url(database_url))
    bare_terminal.run("db", "create")
    execute(database_url, damage)
    bare_terminal.run("init", "--no-tables")
    for command in (
        *(("db", "upgrade"), ("db", "check"), ("db", "create"), ("init",)),
        *(("stats",), ("send", "--to", "ada@example.com", "--text", "hi"), ("worker", "--drain")),
    ):
        said = bare_terminal.run(*command, code=3).err
        assert f"lack {lacking}: restore" in said, command


def test_tables_of_which_an_application_made_some_only_are_named(
    bare_terminal: Terminal, database_url: URL
) -> None:
    bare_terminal.set(database_url=shown_url(database_url))
    engine = create_engine(database_url)
    tables().suppression.create(engine)
    engine.dispose()
    for command in (("db", "upgrade"), ("db", "check"), ("db", "create"), ("stats",)):
        said = bare_terminal.fails(3, *command)
        assert "lack postroom_" in said
        assert "alembic revision --autogenerate" in said
        assert "postroom db upgrade" not in said


def test_tables_that_are_too_old_are_named(bare_terminal: Terminal, database_url: URL) -> None:
    bare_terminal.set(database_url=shown_url(database_url))
    bare_terminal.run("db", "create")
    execute(database_url, "ALTER TABLE postroom_message DROP COLUMN tags")
    execute(database_url, "DELETE FROM postroom_alembic_version")
    said = bare_terminal.fails(3, "send", "--to", "ada@example.com", "--text", "hi")
    assert "postroom_message.tags" in said


def test_tables_that_are_too_new_are_named(bare_terminal: Terminal, database_url: URL) -> None:
    bare_terminal.set(database_url=shown_url(database_url))
    bare_terminal.run("db", "create")
    execute(database_url, "UPDATE postroom_alembic_version SET version_num = '9999'")
    said = bare_terminal.fails(3, "worker", "--drain")
    assert "9999" in said
    assert "pip install --upgrade postroom" in said


def test_every_question_and_decision_works_on_either_database(
    bare_terminal: Terminal, database_url: URL, relay: FaultyRelay
) -> None:
    bare_terminal.set(database_url=shown_url(database_url), relay=relay.url)
    bare_terminal.run("db", "upgrade")
    to_ada = ("send", "--from", "shop@example.com", "--to", "ada@example.com", "--text", "hi")
    assert bare_terminal.run(*to_ada, "--tag", "a", "--wait", "--json").json["state"] == "accepted"
    bare_terminal.run(*to_ada, "--at", "+1h")
    assert bare_terminal.run("stats", "--json").json["by_state"] == {"queued": 1, "accepted": 1}
    assert [found["id"] for found in bare_terminal.run("search", "--tag", "a", "--json").json] == [
        1
    ]
    assert "scheduled" in bare_terminal.run("explain", "2").out
    bare_terminal.run("cancel", "2")
    bare_terminal.run("retry", "2")
    bare_terminal.run("suppress", "ada@example.com")
    bare_terminal.run("unsuppress", "ada@example.com")
    assert bare_terminal.run("preview", "1").out
    assert bare_terminal.run("prune", "--older-than", "0s", "--json").json["messages"] == 1
