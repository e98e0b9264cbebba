"""Dry runs by URL, and how they show and keep a mail."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import ConfigError, MessageError, RelayError
from postroom.message.address import Address
from postroom.message.envelope import Envelope
from postroom.message.message import Draft
from postroom.message.mime import compose
from postroom.relays.relay import Relay
from postroom.relays.route import parse_route
from postroom.smtp.diagnostics import diagnose
from postroom.smtp.dry_run import ConsoleSink, DryRunTransport, FileSink, NullSink, text_preview
from postroom.states import Phase
from tests.mime.drafts import part

ENVELOPE = Envelope(
    sender="shop@example.com", recipients=("ada@example.com", "bob@example.com"), size_bytes=9
)


@pytest.mark.parametrize(
    ("url", "scheme", "name", "path"),
    [
        ("null://", "null", "null", ""),
        ("console://?name=shown&rate=5/s", "console", "shown", ""),
        ("file:///var/mail/out", "file", "/var/mail/out", "/var/mail/out"),
    ],
)
def test_a_dry_run_is_a_relay_by_its_url(url: str, scheme: str, name: str, path: str) -> None:
    relay = Relay.parse(url)
    assert relay.is_dry_run
    assert (relay.scheme, relay.name, relay.path) == (scheme, name, path)


def test_a_dry_run_may_stand_in_a_route() -> None:
    route = parse_route("failover(smtp://relay.example null://)")
    assert not isinstance(route, Relay)


@pytest.mark.parametrize(
    "url",
    ["null://relay.example", "null:///x", "file://", "file://folder/mail", "console://user:pw@"],
)
def test_a_dry_run_goes_nowhere_else(url: str) -> None:
    with pytest.raises(ConfigError, match="expected a dry run to be"):
        Relay.parse(url)


@pytest.mark.parametrize("option", ["tls=off", "max_messages=5", "connect_timeout=1s"])
def test_an_option_that_means_nothing_in_a_dry_run_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match="expected the options of a dry run"):
        Relay.parse(f"null://?{option}")


@pytest.mark.parametrize("url", ["null://", "console://", "file:///var/mail/out"])
def test_a_check_says_that_nobody_gets_the_mail(url: str) -> None:
    (step,) = diagnose(Relay.parse(url))
    assert step.ok
    assert step.name == "dry run"


def test_a_transaction_follows_the_other_as_on_a_connection() -> None:
    session = DryRunTransport(NullSink())
    session.send_envelope(ENVELOPE)
    assert session.read_envelope_replies().outcomes() == (None, None)
    session.send_content([b"Subject: Hi\r\n\r\n"])
    replies = session.end_data(ENVELOPE)
    assert [str(reply) for reply in replies] == ["250 2.0.0 dry run: discarded"] * 2
    assert session.read_envelope_replies().all_accepted
    assert session.transactions == 2


def test_a_file_holds_the_envelope_and_the_exact_bytes(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    session = DryRunTransport(FileSink(tmp_path / "out" / "mail", now=lambda: moment))
    session.send_envelope(ENVELOPE)
    session.send_content([b"Subject: Hi\r\n", b"\r\nHello\r\n"])
    assert [path for path in (tmp_path / "out" / "mail").iterdir() if path.suffix != ".eml"] == []
    assert list((tmp_path / "out" / "mail").glob("[!.]*")) == []
    (reply, _) = session.end_data()
    (path,) = (tmp_path / "out" / "mail").iterdir()
    assert path.name.startswith("20260131T093000.000000-")
    assert path.name.endswith("-ada@example.com.eml")
    assert path.name in str(reply)
    assert path.read_bytes() == (
        b"Return-Path: <shop@example.com>\r\n"
        b"Delivered-To: ada@example.com\r\nDelivered-To: bob@example.com\r\n"
        b"Subject: Hi\r\n\r\nHello\r\n"
    )


def test_a_mail_that_is_not_finished_leaves_no_file(tmp_path: Path) -> None:
    session = DryRunTransport(FileSink(tmp_path))
    session.send_envelope(ENVELOPE)
    session.send_content([b"Subject: Hi\r\n\r\n"])
    session.close()
    assert list(tmp_path.iterdir()) == []


@given(recipient=st.text(min_size=1))
def test_a_recipient_never_leads_a_file_elsewhere(
    recipient: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("mail")
    session = DryRunTransport(FileSink(folder))
    try:
        envelope = Envelope(sender="", recipients=(recipient,), size_bytes=0)
    except MessageError:
        return  # refused long before
    session.send_envelope(envelope)
    session.send_content([])
    session.end_data()
    (path,) = folder.iterdir()
    assert path.suffix == ".eml"


def test_a_folder_that_cannot_be_written_is_the_relays_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RelayError, match="to be writable"):
        FileSink(tmp_path / "file" / "mail")
    session = DryRunTransport(FileSink(tmp_path / "mail"))
    (tmp_path / "mail").rmdir()
    session.send_envelope(ENVELOPE)
    with pytest.raises(RelayError, match="to be writable") as raised:
        session.send_content([b"Subject: Hi\r\n\r\n"])
    assert raised.value.phase is Phase.BODY
    assert not raised.value.in_doubt


def test_the_console_shows_what_people_read() -> None:
    output = io.StringIO()
    session = DryRunTransport(ConsoleSink(output))
    session.send_envelope(ENVELOPE)
    content = compose(
        Draft(
            message_id_seed="0" * 32,
            date=datetime(2026, 1, 31, tzinfo=UTC),
            sender=Address("shop@example.com"),
            subject="Zoë's order",
            text="Thank you.\n",
            html="<p>Thank you.</p>",
            attachments=(part(b"%PDF-", filename="invoice.pdf", content_type="application/pdf"),),
        )
    )
    session.send_content([content.head(to=None, message_id="1@x"), *content.tail()])
    assert output.getvalue() == ""
    session.end_data()
    lines = output.getvalue().splitlines()
    assert lines[0].startswith("-- mail to ada@example.com, bob@example.com --")
    assert "Subject: Zoë's order" in lines
    assert "Thank you." in lines
    assert "[invoice.pdf: application/pdf, 5 bytes]" in lines


@given(content=st.binary(max_size=400))
def test_no_mail_can_steer_the_terminal(content: bytes) -> None:
    shown = text_preview(ENVELOPE, b"Subject: x\r\n\r\n" + content)
    assert all(character.isprintable() or character == "\n" for character in shown)
