"""The page on scripts: each is short, runs, and does what the page says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from sqlalchemy import URL

from postroom import Outbox
from postroom.testing import FaultyRelay
from tests.integration.pages import blocks, write_files

PAGE = "scripts.md"


@pytest.fixture
def folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sqlite_url: URL, relay: FaultyRelay
) -> Path:
    """A folder with the scripts of the page, and an outbox by its variables."""
    write_files(PAGE, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTROOM_CONFIG", "")
    monkeypatch.setenv("POSTROOM_DATABASE_URL", sqlite_url.render_as_string())
    monkeypatch.setenv("POSTROOM_RELAY", relay.url)
    monkeypatch.setenv("POSTROOM_SENDER", "reports@example.com")
    outbox = Outbox.from_env()
    outbox.create_tables()
    outbox.close()
    return tmp_path


def run(path: Path) -> None:
    found = runpy.run_path(str(path))
    if "session" in found:
        found["session"].close()
    found["outbox"].close()


def test_each_is_under_ten_lines() -> None:
    for block in blocks(PAGE):
        lines = [line for line in block.code.splitlines() if line.strip()]
        assert block.language != "python" or len(lines) < 10, block.path


def test_the_script_says_what_the_relay_answered(
    folder: Path, relay: FaultyRelay, capsys: pytest.CaptureFixture[str]
) -> None:
    run(folder / "report.py")
    assert len(relay.accepted) == 2
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in said] == [
        ["ada@example.com", "accepted", "250"],
        ["bob@example.com", "accepted", "250"],
    ]


def test_the_cron_job_may_run_twice(folder: Path, relay: FaultyRelay) -> None:
    run(folder / "nightly.py")
    run(folder / "nightly.py")
    assert [mail.recipients for mail in relay.accepted] == [("ada@example.com",)]


def test_the_notebook_shows_what_would_go_out(
    folder: Path, relay: FaultyRelay, capsys: pytest.CaptureFixture[str]
) -> None:
    run(folder / "notebook")
    assert "Subject: Results" in capsys.readouterr().out
    assert relay.accepted == []
