"""What integration tests share: a terminal to type commands into."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from postroom.testing import FaultyRelay
from tests.integration.terminal import Terminal


@pytest.fixture
def relay() -> Iterator[FaultyRelay]:
    """A relay that accepts everything until told otherwise."""
    with FaultyRelay() as relay:
        yield relay


@pytest.fixture
def bare_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Iterator[Terminal]:
    """A terminal in an empty directory, without any setting."""
    for name in list(os.environ):
        if name.upper().startswith("POSTROOM_"):
            monkeypatch.delenv(name)
    # Set and empty: so that what --config sets is gone after the test.
    monkeypatch.setenv("POSTROOM_CONFIG", "")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    logger = logging.getLogger("postroom")
    before = (logger.handlers[:], logger.level)
    yield Terminal(monkeypatch, capsys)
    logger.handlers[:] = before[0]
    logger.setLevel(before[1])


@pytest.fixture
def terminal(bare_terminal: Terminal, sqlite_url: URL, relay: FaultyRelay) -> Terminal:
    """A terminal with an outbox on SQLite, and a relay."""
    bare_terminal.set(
        database_url=sqlite_url.render_as_string(hide_password=False),
        relay=relay.url,
        sender="shop@example.com",
        poll_interval_s="0.05",
    )
    bare_terminal.run("db", "create")
    return bare_terminal
