"""From a URL to a session: connecting, encrypting, logging in."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from postroom.errors import (
    AuthError,
    ConnectError,
    Disconnected,
    RelayError,
    RelayTimeout,
    TLSError,
)
from postroom.relays.relay import Relay
from postroom.smtp.reply import classify_error
from postroom.smtp.session import Session, connect
from postroom.states import Fault, Phase
from postroom.testing import FaultyRelay, Misbehavior, ServerOptions
from tests.faults.smtp_client import SmtpClient, mail
from tests.integration.certificates import Authority

MECHANISMS = ["plain", "login", "cram-md5", "xoauth2", "oauthbearer"]
SECRET = "hunter2 and a half"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"))


@contextmanager
def connected(relay: FaultyRelay, options: str = "") -> Iterator[Session]:
    session = connect(relay_at(relay, options))
    try:
        yield session
    finally:
        session.quit()


def relay_at(relay: FaultyRelay, options: str = "") -> Relay:
    separator = "&" if "?" in relay.url else "?"
    return Relay.parse(f"{relay.url}{separator}{options}" if options else relay.url)


# Connecting


def test_a_relay_that_does_not_listen_is_named() -> None:
    with FaultyRelay() as relay:
        relay.refuse()
        with pytest.raises(
            ConnectError, match=f"127.0.0.1:{relay.port}.*check that the relay is running"
        ):
            connect(relay_at(relay))


def test_a_name_that_does_not_resolve_is_named() -> None:
    with pytest.raises(ConnectError, match=r"relay\.invalid could not be resolved"):
        connect(Relay.parse("smtp://relay.invalid?tls=off"))


def test_a_relay_that_says_nothing_is_given_up_after_its_deadline() -> None:
    with FaultyRelay() as relay:
        relay.on(Phase.GREETING, Misbehavior.STALL)
        with pytest.raises(RelayTimeout) as timeout:
            connect(relay_at(relay, "command_timeout=50ms"))
        assert timeout.value.phase is Phase.GREETING


def test_a_drip_does_not_get_around_a_deadline() -> None:
    with FaultyRelay(ServerOptions(drip_s=0.01)) as relay:
        relay.on(Phase.GREETING, Misbehavior.DRIP)
        with pytest.raises(RelayTimeout):
            connect(relay_at(relay, "command_timeout=200ms"))


def test_a_session_ends_at_its_deadline_whatever_else_is_allowed() -> None:
    with FaultyRelay() as relay:
        relay.on(Phase.EHLO, Misbehavior.STALL)
        with pytest.raises(RelayTimeout):
            connect(relay_at(relay, "command_timeout=1h&session_timeout=100ms"))


def test_the_greeting_may_refuse_us() -> None:
    with FaultyRelay() as relay:
        relay.on(Phase.GREETING, "554 5.7.1 no service for you")
        with pytest.raises(ConnectError, match="no service for you") as refused:
            connect(relay_at(relay))
        assert classify_error(refused.value).fault is Fault.RELAY
        assert "< 554 5.7.1 no service for you" in refused.value.transcript


def test_we_connect_from_the_address_we_are_told() -> None:
    peers: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, (address, _) = listener.accept()
            with client:
                peers.append(address)

        server = threading.Thread(target=serve)
        server.start()
        port = listener.getsockname()[1]
        with pytest.raises(Disconnected):
            connect(Relay.parse(f"smtp://127.0.0.1:{port}?tls=off&source=127.0.0.2"))
        server.join()
    assert peers == ["127.0.0.2"]


def test_an_address_of_the_wrong_family_cannot_be_used() -> None:
    with pytest.raises(ConnectError, match="same family as source=::1"):
        connect(Relay.parse("smtp://127.0.0.1:1?tls=off&source=::1"))


# Introducing ourselves


def test_we_introduce_ourselves_by_the_name_we_are_given() -> None:
    with FaultyRelay() as relay, connected(relay, "ehlo=shop.example.com") as session:
        assert "> EHLO shop.example.com" in session.transcript


def test_a_relay_without_esmtp_is_spoken_to_all_the_same() -> None:
    with FaultyRelay(ServerOptions(has_esmtp=False)) as relay, connected(relay) as session:
        assert not session.capabilities.has_pipelining
        speaker = SmtpClient(session.relay)
        [[outcome]] = speaker.send(mail("ada@example.com"))
        speaker.close()
        assert outcome.state == "accepted"
        assert len(relay.accepted) == 1


def test_a_relay_may_refuse_our_name() -> None:
    with FaultyRelay() as relay:
        relay.on(Phase.EHLO, "421 4.3.2 not now")
        with pytest.raises(ConnectError, match="not now"):
            connect(relay_at(relay))


# TLS


def test_starttls_is_used_and_verified(authority: Authority) -> None:
    with (
        FaultyRelay(ServerOptions(tls=authority.server())) as relay,
        connected(relay, f"ca={authority.file}") as session,
    ):
        assert "> STARTTLS" in session.transcript
        assert session.transcript.count("> EHLO") == 2


def test_tls_from_the_start(authority: Authority) -> None:
    options = ServerOptions(tls=authority.server(), is_tls_from_start=True)
    with FaultyRelay(options) as relay, connected(relay, f"ca={authority.file}") as session:
        assert "STARTTLS" not in session.transcript


def test_starttls_that_was_removed_on_the_way_is_not_done_without() -> None:
    with FaultyRelay() as relay:
        url = relay.url.replace("tls=off", "tls=required")
        with pytest.raises(TLSError, match="does not announce STARTTLS"):
            connect(Relay.parse(url))
        assert relay.accepted == []


def test_a_certificate_of_an_unknown_authority_is_refused(authority: Authority) -> None:
    with (
        FaultyRelay(ServerOptions(tls=authority.server())) as relay,
        pytest.raises(TLSError, match=r"certificate of 127\.0\.0\.1.*ca=FILE"),
    ):
        connect(relay_at(relay))


def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    with (
        FaultyRelay(ServerOptions(tls=authority.server("other.example"))) as relay,
        pytest.raises(TLSError, match="certificate of"),
    ):
        connect(relay_at(relay, f"ca={authority.file}"))


def test_a_ca_file_that_is_missing_is_named(authority: Authority) -> None:
    with (
        FaultyRelay(ServerOptions(tls=authority.server())) as relay,
        pytest.raises(TLSError, match=r"readable PEM files.*nowhere\.pem"),
    ):
        connect(relay_at(relay, "ca=nowhere.pem"))


def test_a_client_certificate_is_shown(authority: Authority, tmp_path: Path) -> None:
    context = authority.server()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    with FaultyRelay(ServerOptions(tls=context)) as relay:
        options = f"ca={authority.file}&cert={authority.client_certificate(tmp_path)}"
        with connected(relay, options) as session:
            assert session.is_usable
        with pytest.raises(RelayError):
            connect(relay_at(relay, f"ca={authority.file}"))


def test_a_version_of_tls_below_the_least_is_refused(authority: Authority) -> None:
    context = authority.server()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with FaultyRelay(ServerOptions(tls=context)) as relay:
        with connected(relay, f"ca={authority.file}") as session:
            assert session.is_usable
        with pytest.raises(TLSError):
            connect(relay_at(relay, f"ca={authority.file}&min_tls=1.3"))


def test_opportunistic_tls_encrypts_with_whatever_certificate(authority: Authority) -> None:
    with (
        FaultyRelay(ServerOptions(tls=authority.server("other.example"))) as relay,
        connected(relay, "tls=opportunistic") as session,
    ):
        assert "> STARTTLS" in session.transcript


def test_opportunistic_tls_does_without_where_there_is_none() -> None:
    with FaultyRelay() as relay:
        session = connect(Relay.parse(relay.url.replace("tls=off", "tls=opportunistic")))
        assert "STARTTLS" not in session.transcript
        session.quit()


def test_a_port_that_begins_in_clear_text_is_explained() -> None:
    with FaultyRelay() as relay, pytest.raises(TLSError, match="use smtp://"):
        connect(Relay.parse(f"smtps://127.0.0.1:{relay.port}"))


def test_clear_text_that_waits_behind_starttls_is_not_taken_for_the_relays() -> None:
    """RFC 3207 section 6; CVE-2011-0411 and its client-side kin."""
    injected = b"220 2.0.0 go ahead\r\n250-relay.example\r\n250 AUTH PLAIN\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(b"220 relay.example\r\n")
                client.recv(1000)
                client.sendall(b"250-relay.example\r\n250 STARTTLS\r\n")
                client.recv(1000)
                client.sendall(injected)
                client.recv(1000)

        server = threading.Thread(target=serve)
        server.start()
        port = listener.getsockname()[1]
        with pytest.raises(TLSError, match="tampering"):
            connect(Relay.parse(f"smtp://user:pass@127.0.0.1:{port}"))
        server.join()


# Logging in


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_logs_in(authority: Authority, mechanism: str) -> None:
    options = ServerOptions(tls=authority.server(), credentials={"user@example.com": SECRET})
    with (
        FaultyRelay(options) as relay,
        connected(relay, f"ca={authority.file}&auth={mechanism}") as session,
    ):
        assert "< 235" in session.transcript


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_secret_is_in_no_transcript_and_no_error(authority: Authority, mechanism: str) -> None:
    options = ServerOptions(tls=authority.server(), credentials={"user@example.com": "another"})
    with FaultyRelay(options) as relay:
        options = f"ca={authority.file}&auth={mechanism}"
        url = relay_at(relay, options)
        wrong = Relay.parse(f"{relay.url}?{options}", password=SECRET)
        with pytest.raises(AuthError) as refused:
            connect(wrong)
    shown = f"{refused.value} {refused.value.transcript} {refused.value.reply!r} {url!r}"
    assert "credentials invalid" in shown
    assert "***" in refused.value.transcript
    for hidden in (SECRET, "aHVudGVy", "another"):
        assert hidden not in shown


def test_a_relay_that_repeats_what_it_was_told_does_not_make_us_tell() -> None:
    with FaultyRelay(ServerOptions(credentials={"user": SECRET})) as relay:
        encoded = "AHVzZXIAaHVudGVyMiBhbmQgYSBoYWxm"
        relay.on(Phase.AUTH, f"501 5.5.4 what is AUTH PLAIN {encoded} ({SECRET})?")
        with pytest.raises(AuthError, match=r"what is AUTH PLAIN \*\*\*") as refused:
            connect(relay_at(relay, "auth=plain"))
        assert encoded not in refused.value.transcript
        assert SECRET not in refused.value.transcript


@pytest.mark.parametrize(
    "answer",
    [
        "535 5.7.8 unknown AUTH PLAIN AHVzZXIAaHVudGVyMiBhbmQ...",
        "535 5.7.8 unknown AHVZZXIAAHVUDGVYMIBHBMQGYSBOYWXM",
        "535-5.7.8 unknown AHVzZXIAaHVu\r\n535 5.7.8 dGVyMiBhbmQgYSBoYWxm",
        "535 5.7.8 unknown user%00hunter2%20and%20a%20half",
        "AHVzZXIAaHVudGVyMiBhbmQgYSBoYWxm",
    ],
)
def test_a_relay_that_repeats_a_part_of_it_does_not_make_us_tell(answer: str) -> None:
    with FaultyRelay(ServerOptions(credentials={"user": SECRET})) as relay:
        relay.on(Phase.AUTH, answer)
        with pytest.raises(RelayError) as refused:
            connect(relay_at(relay, "auth=plain"))
    kept = f"{refused.value} {refused.value.transcript} {refused.value.reply!r}".lower()
    assert "***" in kept
    for told in ("ahvzzxiaahvu", "dgvymibh", "hunter2"):
        assert told not in kept


def test_a_relay_that_repeats_credentials_later_does_not_make_us_tell() -> None:
    with FaultyRelay(ServerOptions(credentials={"user": SECRET})) as relay:
        relay.on(Phase.MAIL, f"530 5.7.0 you said {SECRET}")
        with connected(relay, "auth=plain") as session:
            session.send_envelope(mail("ada@example.com")[0])
            assert "hunter2" not in str(session.read_envelope_replies().mail)
            assert "hunter2" not in session.transcript


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("535 5.7.8 wrong", Fault.CREDENTIALS),
        ("454 4.7.0 temporary failure", Fault.RELAY),
        ("421 4.3.2 shutting down", Fault.RELAY),
    ],
)
def test_a_login_that_fails_is_blamed_aright(answer: str, fault: Fault) -> None:
    with FaultyRelay(ServerOptions(credentials={"user": SECRET})) as relay:
        relay.on(Phase.AUTH, answer)
        with pytest.raises(AuthError) as refused:
            connect(relay_at(relay))
        assert classify_error(refused.value).fault is fault


def test_a_mechanism_that_is_announced_and_not_known_gives_way_to_the_next() -> None:
    with FaultyRelay(ServerOptions(credentials={"user": SECRET})) as relay:
        relay.on(Phase.AUTH, "504 5.5.4 not that one", times=1)
        with connected(relay) as session:
            assert "< 235" in session.transcript


def test_a_wrong_password_is_tried_once_alone() -> None:
    with FaultyRelay(ServerOptions(credentials={"user": "another"})) as relay:
        with pytest.raises(AuthError) as refused:
            connect(Relay.parse(relay.url, password=SECRET))
        assert refused.value.transcript.count("> AUTH") == 1


def test_without_tls_the_password_stays_here_where_the_relay_can_do_without_it() -> None:
    with (
        FaultyRelay(ServerOptions(credentials={"user": SECRET})) as relay,
        connected(relay) as session,
    ):
        assert "> AUTH CRAM-MD5" in session.transcript


def test_credentials_do_not_go_to_a_relay_nobody_verified(authority: Authority) -> None:
    options = ServerOptions(tls=authority.server(), credentials={"user": SECRET})
    with FaultyRelay(options) as relay:
        url = relay_at(relay, "tls=opportunistic&auth_over_clear=yes")
        with pytest.raises(AuthError, match="no credentials without TLS") as refused:
            connect(_careful(url))
        assert "AUTH ***" not in refused.value.transcript
        assert "> AUTH" not in refused.value.transcript


def _careful(relay: Relay) -> Relay:
    """Take back ``auth_over_clear`` behind the back of what checks it at first."""
    object.__setattr__(relay, "auth_over_clear", False)
    return relay


def test_a_relay_without_auth_is_told_apart_from_a_wrong_password() -> None:
    with FaultyRelay() as relay:
        url = relay.url.replace("smtp://", "smtp://user:secret@") + "&auth_over_clear=yes"
        with pytest.raises(AuthError, match="announces no AUTH"):
            connect(Relay.parse(url))


@pytest.mark.parametrize("mechanism", ["xoauth2", "oauthbearer"])
def test_a_token_that_has_expired_is_asked_for_again(mechanism: str) -> None:
    tokens = iter(["expired", "fresh"])
    with FaultyRelay(ServerOptions(credentials={"user": "fresh"})) as relay:
        url = f"smtp://user@127.0.0.1:{relay.port}?tls=off&auth_over_clear=yes&auth={mechanism}"
        session = connect(Relay.parse(url, token=lambda: next(tokens)))
        assert session.transcript.count(f"> AUTH {mechanism.upper()}") == 2
        session.quit()
    assert next(tokens, None) is None


def test_a_token_that_stays_wrong_is_not_tried_again() -> None:
    with FaultyRelay(ServerOptions(credentials={"user": "fresh"})) as relay:
        url = f"smtp://user@127.0.0.1:{relay.port}?tls=off&auth_over_clear=yes"
        with pytest.raises(AuthError) as refused:
            connect(Relay.parse(url, token=lambda: "expired"))
        assert refused.value.transcript.count("> AUTH") == 1
