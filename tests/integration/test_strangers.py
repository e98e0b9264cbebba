"""What strangers wrote (a subject, a name, a reply) steers no terminal and acts in no browser."""

from __future__ import annotations

import http.server
import json
import os
import pty
import re
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, insert, update
from sqlalchemy.orm import Session

from postroom import Message, Outbox
from postroom.storage import tables as models
from postroom.storage.engine import worker_engine
from tests.integration.terminal import Terminal
from tests.services.chromium import chromium

#: A colour that we never use, so that it is told from what the command itself writes.
COLOUR = "\x1b[38;5;201m"
CONTROLS = {
    "colour": COLOUR,
    "title of the window": "\x1b]0;owned\x07",
    "clipboard (OSC 52)": "\x1b]52;c;cm0gLXJmIH4=\x07",
    "hyperlink (OSC 8)": "\x1b]8;;https://evil.example\x1b\\\\here\x1b]8;;\x1b\\\\",
    "C1 control sequence": "\x9b31m",
    "C1 string": "\x9d52;c;eA==\x9c",
    "bell and backspaces": "\x07\x08\x08",
    "carriage return": "gone\rhere",
    "delete": "\x7f",
    "bidirectional override": "\u202egpj.exe",
    "isolate": "\u2066x\u2069",
    "line separator": "a\u2028b",
}
POISON = " ".join(CONTROLS.values())

#: Everything that shows a stored message, and what became of it.
COMMANDS = (
    ("stats",),
    ("stats", "--json"),
    ("search",),
    ("search", "--json"),
    ("status", "1"),
    ("status", "1", "--transcript"),
    ("status", "1", "--json"),
    ("explain", "1"),
    ("explain", "1", "--json"),
    ("preview", "1"),
    ("preview", "2"),
    ("preview", "2", "--html"),
    ("preview", "2", "--out", "-"),
    ("resolve", "1", "--sent"),
    ("retry", "1"),
    ("cancel", "1"),
    ("cancel", "1", "--json"),
    ("status", POISON),
    ("suppress", POISON),
    ("--traceback", "preview", "1", "--to", POISON),
)


@pytest.fixture
def poisoned(terminal: Terminal, sqlite_url: object, tables: models.Tables) -> Terminal:
    """An outbox in whose rows every text holds control characters, whoever wrote them there."""
    engine = worker_engine(str(sqlite_url))
    outbox = Outbox("null://", engine=engine, sender="shop@example.com")
    with Session(engine) as session:
        for _ in range(2):
            outbox.enqueue(session, Message(subject="s", html="<p>h</p>"), to=["a@b.example"])
        session.commit()
    outbox.worker().drain()
    with Session(engine) as session:
        message, recipient = tables.message, tables.recipient
        texts = {"subject": POISON, "text": POISON, "html": f"<p>{POISON}</p>"}
        session.execute(update(message).values(**texts, tags=[POISON]))
        session.execute(
            update(message).where(message.c.id == 1).values(idempotency_key=POISON, relay=POISON)
        )
        session.execute(update(recipient).values(reply=POISON, state="in_doubt"))
        # A name or an address like this is refused before it is composed: the second has none.
        wrong = {"name": POISON, "address": f"{POISON}@b.example"}
        session.execute(update(recipient).where(recipient.c.id == 1).values(**wrong))
        tried = {"reply": POISON, "transcript": POISON, "relay": POISON, "attempted_at": func.now()}
        attempt = {"recipient_id": 1, "outcome": "deferred", **tried}
        session.execute(insert(tables.attempt).values(attempt))
        session.execute(update(tables.worker).values(host=POISON, version=POISON))
        session.commit()
    engine.dispose()
    return terminal


def on_a_terminal(*commands: tuple[str, ...]) -> str:
    """Run commands in a process of their own, on a terminal; return what it was sent."""
    program = f"""
import sys
from postroom.cli import main
for line in {json.dumps(commands)}:
    sys.argv[1:] = line
    try:
        main()
    except SystemExit:
        pass
    except Exception as error:
        sys.excepthook(type(error), error, error.__traceback__)
"""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "COLUMNS": "500", "TERM": "xterm-256color"},
    ) as process:
        os.close(theirs)
        received = b"".join(iter(lambda: _read(ours), b""))
        process.wait()
    os.close(ours)
    return received.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says EIO where the other end is closed
        return b""


def steers(shown: str) -> set[str]:
    """Return what in ``shown`` a terminal would obey, but for our own colours and line ends."""
    ours = re.sub(r"\x1b\[(?!38;5;201m)[0-9;]*m", "", shown.replace("\r\n", "\n"))
    return {character for character in ours if not character.isprintable() and character != "\n"}


def test_no_command_lets_a_stranger_steer_the_terminal(poisoned: Terminal) -> None:
    shown = on_a_terminal(*COMMANDS)
    assert "gpj.exe" in shown, shown
    assert "\x1b[" in shown  # we are on a terminal
    assert steers(shown) == set()


def test_what_is_piped_as_json_is_exact_and_harmless(
    poisoned: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = poisoned.run("status", "1", "--json")
    assert shown.json["message"]["subject"] == POISON
    assert steers(shown.out) == set()


def test_bytes_and_html_are_exact_where_they_are_piped(poisoned: Terminal) -> None:
    assert poisoned.run("preview", "2", "--html").out == f"<p>{POISON}</p>\n"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_log_lets_a_stranger_steer_the_terminal(poisoned: Terminal, log_format: str) -> None:
    shown = on_a_terminal(("worker", "--drain", "--log-level", "debug", "--log-format", log_format))
    assert "worker started" in shown
    assert steers(shown) == set()


def test_a_dry_run_on_the_console_lets_nobody_steer_the_terminal(poisoned: Terminal) -> None:
    poisoned.set(relay="console://")
    poisoned.run("resolve", "2", "--resend")
    shown = on_a_terminal(("worker", "--drain", "--log-level", "error"))
    assert "gpj.exe" in shown
    assert steers(shown) == set()


# In a browser


class Witness(http.server.BaseHTTPRequestHandler):
    """Answers everything, and remembers that it was asked."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()

    do_POST = do_GET  # noqa: N815  the same

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def witness() -> Iterator[tuple[str, list[str]]]:
    """A web server of a stranger's: its URL, and what it was asked."""
    asked: list[str] = []
    kind = type("OneWitness", (Witness,), {"asked": asked})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


EVIL = """
<script>document.body.innerHTML = 'SCRIPTED'; fetch('{url}/fetch')</script>
<img src="{url}/image"><img src="x" onerror="document.body.innerHTML = 'SCRIPTED'">
<link rel="stylesheet" href="{url}/style"><style>@import url({url}/import);
  p {{ color: rgb(1, 2, 3); background: url({url}/background) }}</style>
<iframe src="{url}/frame"></iframe><object data="{url}/object"></object><embed src="{url}/embed">
<form action="{url}/form" id="f"><button>Go</button></form><svg onload="location='{url}/svg'"></svg>
<meta http-equiv="refresh" content="0; url={url}/refresh">
<a href="{url}/link" target="_top">away</a><video src="{url}/video"></video>
<p id="seen">Dear Ada</p><img id="dot"
  src="data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAUwAOw==">
"></iframe><script>document.title = 'SCRIPTED'</script>
"""


def test_a_mail_opened_in_a_browser_runs_nothing_and_asks_nobody(
    terminal: Terminal, witness: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = witness
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    mail = Path("evil.html")
    mail.write_text(EVIL.format(url=url))
    asking = ("--to", "ada@example.com", "--subject", "<script>x</script>")
    terminal.run("send", *asking, "--html-file", str(mail))
    terminal.run("preview", "1", "--open")
    with chromium() as browser:
        page = browser.new_page()
        page.goto(opened[0], wait_until="load")
        frame = page.frame_locator("iframe")
        seen = frame.locator("#seen")
        assert seen.inner_text() == "Dear Ada"
        assert seen.evaluate("e => getComputedStyle(e).color") == "rgb(1, 2, 3)"
        assert frame.locator("#dot").evaluate("e => e.naturalWidth") == 1
        assert "SCRIPTED" not in page.title() + frame.locator("body").inner_text()
        assert page.title() == "<script>x</script>"
        frame.get_by_text("Go").click()
        frame.get_by_text("away").click()
        assert page.url == opened[0]
        page.wait_for_load_state("networkidle")
    assert asked == []
