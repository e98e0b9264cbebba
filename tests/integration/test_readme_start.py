"""The start in the README does what it says when it is typed in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from postroom.testing import FaultyRelay
from tests.integration.terminal import Terminal
from tests.project.sources import ROOT, code_blocks

RELAY = "smtp://shop:secret@smtp.example.com"


def blocks(*languages: str) -> list[str]:
    return code_blocks((ROOT / "README.md").read_text(encoding="utf-8"), *languages)


def test_the_python_of_the_start_sends_a_mail_and_tells_of_it(
    relay: FaultyRelay,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    enqueue, start, ask = blocks("python")
    names: dict[str, Any] = {}
    exec(enqueue.replace(RELAY, relay.url), names)
    exec(start, names)
    relay.wait_for(1)
    assert names["outbox"].stop()
    exec(ask, names)
    assert capsys.readouterr().out.startswith("ada@example.com accepted 250")
    names["engine"].dispose()
    names["outbox"].close()


def test_the_commands_of_the_start_send_a_mail(bare_terminal: Terminal, relay: FaultyRelay) -> None:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    assert lines[:4] == ["pip install 'postroom[cli]'", "postroom demo", "make demo", "make test"]
    for line in lines[4:]:
        bare_terminal.type(line.replace(RELAY, relay.url))
    (mail,) = relay.accepted
    assert mail.recipients == ("ada@example.com",)
