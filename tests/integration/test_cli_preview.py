"""``postroom preview`` shows what would be sent, to the byte, and sends nothing."""

from __future__ import annotations

import json
import time
import webbrowser
from email import message_from_bytes
from email.policy import default
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from postroom.testing import FaultyRelay
from tests.integration.terminal import Terminal

TO = ("--to", "ada@example.com", "--to", "bob@example.com")


@pytest.fixture
def templates(bare_terminal: Terminal) -> Terminal:
    """Templates of one name, in the folder ``mails``; no database is set."""
    folder = Path("mails")
    folder.mkdir()
    (folder / "order.subject.txt").write_text("Order {{ number }}\n")
    (folder / "order.txt").write_text("Thank you, {{ name }}.\n")
    (folder / "order.html").write_text('<p>Thank you, {{ name }}. <img src="cid:logo.png"></p>\n')
    Path("order.json").write_text(json.dumps({"number": "A-1", "name": "Ada <3"}))
    Path("logo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    bare_terminal.set(templates="mails")
    return bare_terminal


def test_a_stored_message_is_shown_with_its_head_and_text(terminal: Terminal) -> None:
    terminal.run("send", *TO, "--subject", "Hello", "--text", "Is it there?")
    lines = terminal.run("preview", "1", "--to", "bob@example.com").lines
    assert {"to bob@example.com", "subject Hello", "Is it there?"} <= set(lines)


def test_the_bytes_are_those_that_are_sent(terminal: Terminal, relay: FaultyRelay) -> None:
    Path("lines.csv").write_text("a,b\n1,2\n")
    terminal.run("send", *TO, "--text", ".hidden\n", "--attach", "lines.csv")
    terminal.run("preview", "1", "--to", "bob@example.com", "--out", "bob.eml")
    terminal.run("worker", "--drain")
    sent = {mail.recipients: mail.content for mail in relay.accepted}
    assert Path("bob.eml").read_bytes() == sent[("bob@example.com",)]


def test_templates_are_rendered_without_a_database(templates: Terminal) -> None:
    lines = templates.run("preview", "order", "--context", "order.json").lines
    assert {"subject Order A-1", "Thank you, Ada <3."} <= set(lines)
    shown = templates.run("preview", "order", "--context", "order.json", "--html")
    assert "Thank you, Ada &lt;3." in shown.out


def test_the_browser_gets_the_images_too(
    templates: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    asked = ("preview", "order", "--context", "order.json", "--inline", "logo.png", "--open")
    templates.run(*asked)
    page = Path(unquote(urlsplit(opened[0]).path))
    assert 'src="data:image/png;base64,iVBORw0KGgo' in unescape(page.read_text())
    page.unlink()


def test_the_bytes_of_templates_are_a_message(templates: Terminal) -> None:
    asked = ("preview", "order", "--context", "order.json", "--inline", "logo.png")
    assert "order.eml written" in templates.run(*asked, "--out", "order.eml").out
    message = message_from_bytes(Path("order.eml").read_bytes(), policy=default)
    assert message["Subject"] == "Order A-1"
    assert [part.get_content_type() for part in message.walk() if not part.is_multipart()] == [
        "text/plain",
        "text/html",
        "image/png",
    ]


def test_the_bytes_may_go_into_a_pipe(templates: Terminal) -> None:
    shown = templates.run("preview", "order", "--context", "order.json", "--out", "-")
    assert message_from_bytes(shown.out.encode(), policy=default)["Subject"] == "Order A-1"


def test_what_a_template_lacks_is_named(templates: Terminal) -> None:
    said = templates.fails(6, "preview", "order")
    assert "order.subject.txt" in said
    assert "number" in said


def test_a_template_that_does_not_exist_is_named(templates: Terminal) -> None:
    assert "ordr" in templates.fails(6, "preview", "ordr")


def test_a_recipient_that_a_message_does_not_have_is_not_found(terminal: Terminal) -> None:
    terminal.run("send", *TO, "--text", "hi")
    assert "eve@example.com" in terminal.fails(4, "preview", "1", "--to", "eve@example.com")
    assert "no HTML" in terminal.fails(2, "preview", "1", "--html")


def test_it_is_shown_again_when_a_file_changes(
    templates: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    edits = iter(["Dear {{ name }},\n", "Dear {{ nobody }},\n", "Hello {{ name }}!\n"])

    def edit_the_template(duration_s: float) -> None:
        text = next(edits, None)
        if text is None:
            raise KeyboardInterrupt
        Path("mails", "order.txt").write_text(text)

    monkeypatch.setattr(time, "sleep", edit_the_template)
    shown = templates.run("preview", "order", "--context", "order.json", "--watch", code=130)
    texts = ["Thank you, Ada <3.", "Dear Ada <3,", "Hello Ada <3!"]
    assert [line for line in shown.lines if "Ada" in line] == texts
    assert "nobody" in shown.err


def test_a_watched_page_is_opened_once_and_loads_again_by_itself(
    templates: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    edits = iter(["<p>Dear {{ name }}</p>\n"])

    def edit_the_template(duration_s: float) -> None:
        text = next(edits, None)
        if text is None:
            raise KeyboardInterrupt
        Path("mails", "order.html").write_text(text)

    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(time, "sleep", edit_the_template)
    templates.run("preview", "order", "--context", "order.json", "--open", "--watch", code=130)
    (url,) = opened
    page = Path(unquote(urlsplit(url).path))
    assert "<p>Dear Ada &lt;3</p>" in unescape(page.read_text())
    assert 'http-equiv="refresh"' in page.read_text()
    page.unlink()


def test_a_stored_message_is_not_watched(terminal: Terminal) -> None:
    assert "never changes" in terminal.fails(2, "preview", "1", "--watch")
