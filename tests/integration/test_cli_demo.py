"""``postroom demo`` ends by itself, shows what became of each mail, and leaves the mails."""

from __future__ import annotations

import re
import signal
from collections import Counter
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest

from tests.integration.terminal import Terminal

pytestmark = pytest.mark.slow


@pytest.fixture
def demo_terminal(bare_terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal whose temporary files go with the test."""
    monkeypatch.setenv("TMPDIR", str(Path.cwd()))
    return bare_terminal


def mails(folder: Path) -> list[EmailMessage]:
    found = [
        message_from_bytes(file.read_bytes(), policy=default) for file in sorted(folder.iterdir())
    ]
    return [message for message in found if isinstance(message, EmailMessage)]


def test_the_demo_shows_what_became_of_each_mail(demo_terminal: Terminal) -> None:
    with demo_terminal.started("demo") as process:
        shown, said = process.communicate(timeout=100)
    assert (process.returncode, said) == (0, "")
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "shipped linus@moved.example rejected 1 550 5.1.1 no such user here" in lines
    assert any(line.startswith("shipped greta@greylist.example accepted 2 250") for line in lines)
    assert sum(line.startswith("order ") for line in lines) == 1

    (where,) = re.findall(r"as files to open: (\S+)", shown)
    arrived = mails(Path(where))
    assert Counter(message["Subject"].partition(" ")[0] for message in arrived) == {
        "Order": 4,
        "Results": 2,
    }
    results = next(message for message in arrived if message["Subject"].startswith("Results"))
    csv, excel = results.iter_attachments()
    assert "A-4711,JJD000340002123461,unknown order" in csv.get_content()
    assert excel.get_filename() == "results.xlsx"
    assert excel.get_content().startswith(b"PK")


def test_what_the_demo_leaves_can_be_looked_into(demo_terminal: Terminal) -> None:
    with demo_terminal.started("demo") as process:
        shown, _ = process.communicate(timeout=100)
    (folder,) = re.findall(r"To look closer: cd (\S+)", shown)
    config = f"{folder}/postroom.toml"
    listed = demo_terminal.run("--config", config, "search", "--json").json
    assert [message["tags"] for message in listed] == [["shipped"], ["upload"], ["order"]]


def test_kept_open_it_takes_mail_until_ctrl_c(demo_terminal: Terminal) -> None:
    with demo_terminal.started("demo", "--keep") as process:
        assert process.stdout is not None
        shown = iter(process.stdout.readline, "")
        folder = next(line for line in shown if "To look closer" in line).split()[-1]
        next(line for line in shown if "Ctrl-C" in line)
        config = f"{folder}/postroom.toml"
        sent = ("send", "--to", "you@example.com", "--subject", "Hello", "--text", "hi", "--wait")
        demo_terminal.run("--config", config, *sent)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "")
    subjects = [message["Subject"] for message in mails(Path(folder) / "inbox")]
    assert subjects.count("Hello") == 1
