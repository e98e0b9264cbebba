"""The relay that fails on demand, as our users' tests may use it."""

from __future__ import annotations

import smtplib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from postroom.relays.relay import Relay
from postroom.states import Phase
from postroom.testing import FaultyRelay, Misbehavior, ServerOptions, read_journal

MAIL = "Subject: hello\r\n\r\n.a line that begins with a dot\r\n"


@pytest.fixture
def relay() -> Iterator[FaultyRelay]:
    with FaultyRelay() as relay:
        yield relay


@contextmanager
def client(relay: FaultyRelay) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=10) as smtp:
        yield smtp


def send(relay: FaultyRelay, *recipients: str) -> dict[str, tuple[int, bytes]]:
    with client(relay) as smtp:
        return smtp.sendmail("shop@example.com", recipients, MAIL)


def test_without_a_script_it_does_the_right_thing(relay: FaultyRelay) -> None:
    assert send(relay, "ada@example.com", "bob@example.com") == {}
    [accepted] = relay.accepted
    assert accepted.sender == "shop@example.com"
    assert accepted.recipients == ("ada@example.com", "bob@example.com")
    assert accepted.content == MAIL.encode()
    assert accepted.mail_parameters == f"size={len(MAIL)}"


def test_an_answer_may_be_for_one_recipient_alone(relay: FaultyRelay) -> None:
    relay.on(Phase.RCPT, "550 5.1.1 no such user", address="nobody@example.com")
    refused = send(relay, "ada@example.com", "nobody@example.com")
    assert refused == {"nobody@example.com": (550, b"5.1.1 no such user")}
    assert relay.accepted[0].recipients == ("ada@example.com",)


def test_an_answer_may_be_given_so_many_times(relay: FaultyRelay) -> None:
    relay.on(Phase.RCPT, "451 4.7.1 later", times=2)
    for _ in range(2):
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(relay, "ada@example.com")
    assert send(relay, "ada@example.com") == {}


def test_the_first_entry_that_fits_is_played(relay: FaultyRelay) -> None:
    relay.on(Phase.DOT, "451 4.3.0 first", times=1)
    relay.on(Phase.DOT, "554 5.7.1 second")
    for expected in (451, 554, 554):
        with pytest.raises(smtplib.SMTPDataError) as refused:
            send(relay, "ada@example.com")
        assert refused.value.smtp_code == expected


def test_an_answer_may_have_several_lines(relay: FaultyRelay) -> None:
    relay.on(Phase.MAIL, "550 5.7.1 one\n5.7.1 two")
    with pytest.raises(smtplib.SMTPSenderRefused) as refused:
        send(relay, "ada@example.com")
    assert refused.value.smtp_error == b"5.7.1 one\n5.7.1 two"


def test_a_script_may_be_forgotten(relay: FaultyRelay) -> None:
    relay.on(Phase.MAIL, "550 5.7.1 never")
    relay.behave()
    assert send(relay, "ada@example.com") == {}


@pytest.mark.parametrize("trouble", [Misbehavior.RESET, Misbehavior.CLOSE])
@pytest.mark.parametrize("after_accepting", [False, True])
def test_it_drops_the_connection_before_or_after_it_accepts(
    relay: FaultyRelay, trouble: Misbehavior, after_accepting: bool
) -> None:
    relay.on(Phase.DOT, trouble, after_accepting=after_accepting)
    with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionResetError)):
        send(relay, "ada@example.com")
    assert len(relay.accepted) == after_accepting


def test_a_421_closes_the_connection(relay: FaultyRelay) -> None:
    relay.on(Phase.MAIL, "421 4.3.2 bye")
    with client(relay) as smtp:
        assert smtp.mail("shop@example.com")[0] == 421
        with pytest.raises(smtplib.SMTPServerDisconnected):
            smtp.noop()


def test_it_refuses_connections_until_it_serves_again_on_the_same_port(relay: FaultyRelay) -> None:
    port = relay.port
    relay.refuse()
    with pytest.raises(ConnectionRefusedError):
        send(relay, "ada@example.com")
    relay.serve()
    assert send(relay, "ada@example.com") == {}
    assert relay.port == port


def test_connections_that_stand_may_be_cut(relay: FaultyRelay) -> None:
    with client(relay) as smtp:
        relay.hang_up()
        with pytest.raises(smtplib.SMTPServerDisconnected):
            smtp.noop()


def test_what_it_accepts_is_in_its_journal_before_it_says_so(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    for synced in (True, False):
        with FaultyRelay(journal=journal, syncs=synced) as relay:
            send(relay, "ada@example.com", "bob@example.com")
            assert read_journal(journal)[-1] == relay.accepted[0]
    assert len(read_journal(journal)) == 2


def test_a_journal_that_ends_in_the_middle_of_a_line_is_read_up_to_there(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with FaultyRelay(journal=journal) as relay:
        send(relay, "ada@example.com")
    journal.write_bytes(journal.read_bytes() + b'{"sender": "cut o')
    assert [accepted.recipients for accepted in read_journal(journal)] == [("ada@example.com",)]


def test_one_may_wait_for_mail(relay: FaultyRelay) -> None:
    sender = threading.Thread(target=send, args=(relay, "ada@example.com"))
    sender.start()
    assert len(relay.wait_for(1)) == 1
    sender.join()
    with pytest.raises(TimeoutError, match=r"only 1 of 2 mails"):
        relay.wait_for(2, timeout_s=0.01)


def test_recipients_may_be_too_many() -> None:
    with FaultyRelay(ServerOptions(max_recipients=1)) as relay:
        refused = send(relay, "ada@example.com", "bob@example.com")
        assert refused == {"bob@example.com": (452, b"4.5.3 too many recipients")}


def test_extensions_may_be_left_out() -> None:
    with FaultyRelay(ServerOptions().without("SIZE", "DSN")) as relay, client(relay) as smtp:
        smtp.ehlo()
        assert not smtp.has_extn("size")
        assert not smtp.has_extn("dsn")
        assert smtp.has_extn("smtputf8")


def test_it_may_speak_helo_alone() -> None:
    with FaultyRelay(ServerOptions(has_esmtp=False)) as relay:
        assert send(relay, "ada@example.com") == {}


def test_mail_needs_the_login_where_there_is_one() -> None:
    with FaultyRelay(ServerOptions(credentials={"user": "pa55word"})) as relay:
        with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
            send(relay, "ada@example.com")
        with client(relay) as smtp:
            smtp.login("user", "pa55word")
            assert smtp.sendmail("shop@example.com", ["ada@example.com"], MAIL) == {}


def test_answers_take_as_long_as_the_relay_is_far_away() -> None:
    with FaultyRelay(ServerOptions(delay_s=0.05)) as relay, client(relay) as smtp:
        smtp.timeout = 0.01
        assert smtp.sock is not None
        smtp.sock.settimeout(0.01)
        with pytest.raises((TimeoutError, smtplib.SMTPServerDisconnected)):
            smtp.noop()


def test_its_url_says_how_to_reach_it(tmp_path: Path) -> None:
    with FaultyRelay(ServerOptions(credentials={"us@er": "p:ass"})) as relay:
        parsed = Relay.parse(relay.url)
        assert (parsed.host, parsed.port, parsed.username) == ("127.0.0.1", relay.port, "us@er")
        assert parsed.password is not None
        assert parsed.password.reveal() == "p:ass"
    with FaultyRelay(ServerOptions(is_lmtp=True), path=tmp_path / "socket") as relay:
        assert Relay.parse(relay.url).path == str(tmp_path / "socket")
    assert not (tmp_path / "socket").exists()
