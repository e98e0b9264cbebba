"""``postroom send``: everything is checked before anything is stored, and --wait tells the end."""

from __future__ import annotations

import json
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest

from postroom.states import Phase
from postroom.testing import Accepted, FaultyRelay
from tests.integration.terminal import Terminal

HELLO = ("--subject", "Hello", "--text", "Is it there?")


def parsed(mail: Accepted) -> EmailMessage:
    message = message_from_bytes(mail.content, policy=default)
    assert isinstance(message, EmailMessage)
    return message


def test_a_message_is_enqueued_for_a_worker(terminal: Terminal) -> None:
    shown = terminal.run("send", "--to", "ada@example.com", "--to", "bob@example.com", *HELLO)
    assert shown.out == "message 1 enqueued for 2 recipients\n"
    (listed,) = terminal.run("search", "--json").json
    assert (listed["subject"], listed["state"], listed["recipients"]) == ("Hello", "queued", 2)


def test_with_wait_it_is_delivered_from_here(terminal: Terminal, relay: FaultyRelay) -> None:
    shown = terminal.run("send", "--to", "ada@example.com", *HELLO, "--wait")
    assert shown.lines[0] == "message 1: accepted"
    assert shown.lines[2].startswith("ada@example.com accepted 250")
    (mail,) = relay.accepted
    assert parsed(mail)["Subject"] == "Hello"


def test_with_wait_a_refused_recipient_is_shown_and_fails(
    terminal: Terminal, relay: FaultyRelay
) -> None:
    relay.on(Phase.RCPT, "550 5.1.1 no such user", address="bob@example.com")
    to = ("--to", "ada@example.com", "--to", "bob@example.com")
    shown = terminal.run("send", *to, *HELLO, "--wait", "--json", code=1)
    states = {one["address"]: one["state"] for one in shown.json["recipients"]}
    assert states == {"ada@example.com": "accepted", "bob@example.com": "rejected"}


def test_with_wait_time_is_up_at_the_timeout(terminal: Terminal, relay: FaultyRelay) -> None:
    relay.on(Phase.RCPT, "451 4.7.1 come back later")
    wait = ("--wait", "--timeout", "1s")
    shown = terminal.run("send", "--to", "ada@example.com", *HELLO, *wait, code=1)
    assert "ada@example.com deferred 451 4.7.1 come back later" in shown.lines


def test_the_same_key_sends_once(terminal: Terminal) -> None:
    keyed = ("send", "--to", "ada@example.com", *HELLO, "--idempotency-key", "hello-ada")
    terminal.run(*keyed)
    assert "belongs to message 1 already" in terminal.run(*keyed).out
    assert terminal.stored() == 1


def test_the_same_key_with_other_content_is_refused(terminal: Terminal) -> None:
    keyed = ("send", "--to", "ada@example.com", "--idempotency-key", "hello-ada", "--text")
    terminal.run(*keyed, "one")
    assert "hello-ada" in terminal.fails(5, *keyed, "other")


def test_everyone_in_to_and_cc_sees_everyone(terminal: Terminal, relay: FaultyRelay) -> None:
    people = ("--to", "ada@example.com", "--cc", "bob@example.com", "--bcc", "eve@example.com")
    terminal.run("send", *people, *HELLO, "--wait")
    (mail,) = relay.accepted
    assert set(mail.recipients) == {"ada@example.com", "bob@example.com", "eve@example.com"}
    message = parsed(mail)
    assert (message["To"], message["Cc"], message["Bcc"]) == (
        "ada@example.com",
        "bob@example.com",
        None,
    )


def test_files_and_images_travel(terminal: Terminal, relay: FaultyRelay) -> None:
    Path("invoice.txt").write_text("12.50")
    Path("logo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    html = ("--html", '<p>Here <img src="cid:logo.png"></p>')
    files = ("--attach", "invoice.txt", "--inline", "logo.png")
    terminal.run("send", "--to", "ada@example.com", *html, *files, "--wait")
    message = parsed(relay.accepted[0])
    names = {part.get_filename(): part["Content-ID"] for part in message.walk()}
    assert "invoice.txt" in names
    assert names["logo.png"] == "<logo.png>"


def test_the_text_may_come_from_standard_input(terminal: Terminal, relay: FaultyRelay) -> None:
    text = ("--text-file", "-")
    terminal.run("send", "--to", "ada@example.com", *text, "--wait", typed="from a pipe\n")
    assert "from a pipe" in parsed(relay.accepted[0]).get_content()


def test_a_list_and_templates_give_each_their_own(terminal: Terminal, relay: FaultyRelay) -> None:
    templates = Path("mails")
    templates.mkdir()
    (templates / "news.subject.txt").write_text("News for {{ city }}\n")
    (templates / "news.txt").write_text("Dear {{ name }}, {{ greeting }}\n")
    Path("people.csv").write_text(
        "name;email;city\nAda;ada@a.example;London\nGrace;grace@b.example;Arlington\n"
    )
    Path("context.json").write_text(json.dumps({"greeting": "here it is."}))
    terminal.set(templates="mails")
    asked = ("--template", "news", "--context", "context.json", "--to-csv", "people.csv")
    terminal.run("send", *asked, "--wait")
    messages = {parsed(mail)["To"]: parsed(mail) for mail in relay.accepted}
    assert messages["Ada <ada@a.example>"]["Subject"] == "News for London"
    text = messages["Grace <grace@b.example>"].get_content()
    assert text.strip() == "Dear Grace, here it is."


def test_it_waits_for_its_time_and_expires(terminal: Terminal) -> None:
    when = ("--at", "2099-01-31T09:30+00:00", "--expires", "2099-02-01T00:00+00:00")
    labels = ("--tag", "news", "--lane", "bulk")
    terminal.run("send", "--to", "ada@example.com", *HELLO, *when, *labels)
    message = terminal.run("status", "1", "--json").json["message"]
    assert message["scheduled_at"] == "2099-01-31T09:30:00+00:00"
    assert message["expires_at"] == "2099-02-01T00:00:00+00:00"
    assert (message["tags"], message["lane"]) == (["news"], "bulk")


def test_of_ten_thousand_addresses_three_wrong_ones_are_named_and_nothing_is_stored(
    terminal: Terminal,
) -> None:
    addresses = [f"user{n}@example.com" for n in range(10_000)]
    for n, wrong in ((17, "nobody"), (4711, "a@b@example.com"), (9998, "eve@-.example")):
        addresses[n] = wrong
    Path("people.csv").write_text("email\n" + "\n".join(addresses))
    said = terminal.fails(6, "send", "--to-csv", "people.csv", *HELLO)
    assert all(wrong in said for wrong in ("nobody", "a@b@example.com", "eve@-.example"))
    assert "line 19" in said
    assert terminal.stored() == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--to", "ada"), "ada"),
        (("--to", "ada@example.com\r\nBcc: eve@example.com"), "printable"),
        (("--to", "ada@example.com", "--subject", "one\ntwo"), "printable"),
        (("--to", "ada@example.com", "--subject", "one\0two"), "printable"),
        (("--to", "ada@example.com", "--from", "nobody"), "nobody"),
        (("--to", "ada@example.com", "--attach", "missing.pdf"), "missing.pdf"),
        (("--to", "ada@example.com", "--attach", "folder"), "directory"),
        (("--to", "ada@example.com", "--expires", "2001-01-01", "--at", "+1h"), "expires_at"),
        ((), "recipient"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is_stored(
    terminal: Terminal, options: tuple[str, ...], said: str
) -> None:
    Path("folder").mkdir()
    assert said in terminal.fails(6, "send", "--text", "hi", *options)
    assert terminal.stored() == 0


def test_a_message_that_is_too_large_is_refused(terminal: Terminal) -> None:
    terminal.set(max_message_bytes="20000")
    Path("large.bin").write_bytes(bytes(20_000))
    said = terminal.fails(6, "send", "--to", "ada@example.com", "--attach", "large.bin")
    assert "max_message_bytes" in said
    assert terminal.stored() == 0


def test_a_template_that_fails_is_named_with_its_line(terminal: Terminal) -> None:
    Path("order.subject.txt").write_text("Order\n")
    Path("order.txt").write_text("Dear {{ name }},\n\nyour {{ ordr }}\n")
    Path("context.json").write_text('{"name": "Ada"}')
    terminal.set(templates=".")
    asked = ("--template", "order", "--context", "context.json", "--to", "ada@example.com")
    said = terminal.fails(6, "send", *asked)
    assert "order.txt" in said
    assert "line 3" in said
    assert "ordr" in said
    assert terminal.stored() == 0


def test_a_context_that_is_not_json_is_named_with_its_line(terminal: Terminal) -> None:
    Path("context.json").write_text('{\n"name": Ada}')
    asked = ("--template", "order", "--context", "context.json", "--to", "ada@example.com")
    assert "context.json, line 2" in terminal.fails(6, "send", *asked)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--template", "order", "--text", "hi"),
        ("--text", "hi", "--text-file", "-"),
        ("--text", "hi", "--at", "soon"),
        ("--text", "hi", "--lane", "slow"),
        ("--text", "hi", "--to-csv", "missing.csv"),
    ],
)
def test_a_wrong_command_line_is_refused(terminal: Terminal, options: tuple[str, ...]) -> None:
    said = terminal.fails(2, "send", "--to", "ada@example.com", *options)
    assert "Try: postroom send --help" in said
    assert terminal.stored() == 0
