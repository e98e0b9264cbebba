"""Sessions with servers we did not write: Postfix, Exim, and nodemailer's ``smtp-server``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from postroom.errors import AuthError, TLSError
from postroom.message.envelope import DsnOptions, Envelope
from postroom.relays.relay import Relay
from postroom.smtp.reply import Outcome
from postroom.smtp.session import connect
from postroom.states import Fault, RecipientState
from tests.faults.smtp_client import Mail, SmtpClient, mail
from tests.integration.certificates import Authority
from tests.services.exim import Exim
from tests.services.nodemailer import NodeSmtpServer
from tests.services.postfix import Postfix
from tests.services.sasl import SaslServer
from tests.services.waiting import wait_for

USER, PASSWORD = "user", "pa55word"
ACCEPTED, DEFERRED, REJECTED = (
    RecipientState.ACCEPTED,
    RecipientState.DEFERRED,
    RecipientState.REJECTED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server under test: where it is, whom it trusts, and the texts of what it has."""

    name: str
    port: int
    ca: Path
    received: Callable[[], list[str]]

    def relay(self, options: str = "", *, login: str = "") -> Relay:
        separator = "&" if options else ""
        return Relay.parse(f"smtp://{login}127.0.0.1:{self.port}?ca={self.ca}{separator}{options}")

    def find(self, text: str) -> str:
        """Wait for a mail with ``text`` in it, and return it whole."""
        return wait_for(
            lambda: next((mail for mail in self.received() if text in mail), ""),
            f"{self.name} to have a mail with {text!r}",
        )


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that servers may read, which run as users of their own; pytest's may not be."""
    with tempfile.TemporaryDirectory(prefix="postroom-servers-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority.create(folder)


@pytest.fixture(scope="module")
def certificate(authority: Authority, folder: Path) -> Path:
    file = folder / "server.pem"
    authority.made.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(file)
    file.chmod(0o644)
    return file


@pytest.fixture(scope="module")
def secure_postfix(authority: Authority, certificate: Path, folder: Path) -> Iterator[Server]:
    sasl = SaslServer({USER: PASSWORD})
    checks = folder / "header_checks"
    checks.write_text("/^Subject: spam/ REJECT 5.7.1 looks like spam\n")
    postfix = Postfix(
        {
            "smtpd_tls_security_level": "may",
            "smtpd_tls_chain_files": str(certificate),
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "dovecot",
            "smtpd_sasl_path": sasl.place,
            "smtpd_recipient_limit": "5",
            "message_size_limit": "1048576",
            "header_checks": f"regexp:{checks}",
        }
    )
    yield Server(
        name="Postfix",
        port=postfix.port,
        ca=authority.file,
        received=lambda: [path.read_text("utf-8", "replace") for path in postfix.received()],
    )
    postfix.remove()
    sasl.remove()


@pytest.fixture(scope="module")
def exim(authority: Authority, certificate: Path) -> Iterator[Server]:
    exim = Exim(certificate, user=USER, password=PASSWORD)
    yield Server(name="Exim", port=exim.port, ca=authority.file, received=exim.received)
    exim.remove()


@pytest.fixture(scope="module")
def node(authority: Authority, certificate: Path) -> Iterator[Server]:
    node = NodeSmtpServer(certificate, user=USER, password=PASSWORD)
    yield Server(name="smtp-server", port=node.port, ca=authority.file, received=node.received)
    node.remove()


@pytest.fixture(params=["secure_postfix", "exim", "node"])
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


@contextmanager
def speaking(relay: Relay) -> Iterator[SmtpClient]:
    speaker = SmtpClient(relay)
    try:
        yield speaker
    finally:
        speaker.close()


def send(relay: Relay, *mails: Mail) -> list[list[Outcome]]:
    with speaking(relay) as speaker:
        return speaker.send(*mails)


def states(outcomes: list[Outcome]) -> list[RecipientState]:
    return [outcome.state for outcome in outcomes]


def test_many_mails_go_over_one_encrypted_connection(server: Server) -> None:
    mails = [mail("ada@example.com", subject=f"campaign {number}.") for number in range(20)]
    with speaking(server.relay()) as speaker:
        outcomes = speaker.send(*mails)
        assert speaker.connections == 1
    assert {outcome.state for [outcome] in outcomes} == {ACCEPTED}
    for number in range(20):
        server.find(f"Subject: campaign {number}.")


def test_every_extension_we_use_is_found(server: Server) -> None:
    session = connect(server.relay())
    found = session.capabilities
    session.quit()
    assert found.has_pipelining
    assert found.has_8bitmime
    assert found.has_smtputf8
    assert found.has_dsn
    assert found.size_bytes == 1_048_576


@pytest.mark.parametrize("mechanism", ["plain", "login", "cram-md5"])
def test_logging_in(server: Server, mechanism: str) -> None:
    session = connect(server.relay(f"auth={mechanism}", login=f"{USER}:{PASSWORD}@"))
    assert "< 235" in session.transcript
    assert PASSWORD not in session.transcript
    session.quit()


@pytest.mark.parametrize("mechanism", ["xoauth2", "oauthbearer"])
def test_logging_in_with_a_token(secure_postfix: Server, mechanism: str) -> None:
    tokens = iter(["expired", PASSWORD])
    options = f"ca={secure_postfix.ca}&auth={mechanism}"
    relay = Relay.parse(
        f"smtp://{USER}@127.0.0.1:{secure_postfix.port}?{options}", token=lambda: next(tokens)
    )
    session = connect(relay)
    assert "< 235" in session.transcript
    session.quit()


def test_a_wrong_password_is_told_apart(server: Server) -> None:
    with pytest.raises(AuthError) as refused:
        connect(server.relay("auth=plain", login=f"{USER}:wrong@"))
    assert refused.value.reply is not None
    assert refused.value.reply.code == 535


def test_a_certificate_nobody_vouches_for_is_refused(server: Server) -> None:
    with pytest.raises(TLSError, match="certificate"):
        connect(Relay.parse(f"smtp://127.0.0.1:{server.port}"))


def test_each_recipient_has_an_answer_of_its_own(server: Server) -> None:
    mixed = mail(
        "ada@example.com", "unknown@example.com", "bob@example.net", subject="mixed answers"
    )
    [outcomes] = send(server.relay(), mixed)
    assert states(outcomes) == [ACCEPTED, REJECTED, ACCEPTED]
    assert outcomes[1].fault is Fault.RECIPIENT
    assert "x" * 76 in server.find("mixed answers")


def test_where_nobody_stands_the_connection_goes_on(server: Server) -> None:
    with speaking(server.relay()) as speaker:
        first, second = speaker.send(
            mail("unknown@example.com"), mail("ada@example.com", subject="after nobody")
        )
        assert states([*first, *second]) == [REJECTED, ACCEPTED]
        assert speaker.connections == 1
    server.find("Subject: after nobody")


def test_mail_to_elsewhere_wants_a_login(server: Server) -> None:
    [[outcome]] = send(server.relay(), mail("ada@elsewhere.example"))
    assert (outcome.state, outcome.fault) == (DEFERRED, Fault.CREDENTIALS)


def test_greylisting_is_waited_out(exim: Server) -> None:
    [[outcome]] = send(exim.relay(), mail("later@example.com"))
    assert (outcome.state, outcome.fault) == (DEFERRED, Fault.RECIPIENT)
    assert outcome.retry_after_s == 300


def test_a_refused_content_is_the_messages_fault(server: Server) -> None:
    with speaking(server.relay()) as speaker:
        first, second = speaker.send(
            mail("ada@example.com", subject="spam"), mail("ada@example.com", subject="no junk")
        )
        assert (first[0].state, first[0].fault) == (REJECTED, Fault.MESSAGE)
        assert states(second) == [ACCEPTED]
        assert speaker.connections == 1


def test_too_many_recipients_go_in_several_transactions(server: Server) -> None:
    """Each server takes five, and says so to the sixth."""
    recipients = [f"user{number}@example.com" for number in range(7)]
    envelope, content = mail(*recipients, subject="five at most")
    session = connect(server.relay())
    session.send_envelope(envelope)
    replies = session.read_envelope_replies()
    session.send_content([content])
    session.end_data()
    session.quit()
    assert replies.excess_recipients == (5, 6)
    assert session.max_recipients == 5
    assert states([outcome for outcome in replies.outcomes() if outcome]) == [DEFERRED, DEFERRED]


def test_an_address_in_another_script_is_written_to(server: Server) -> None:
    content = "Subject: Grüße\r\nTo: jürgen@example.com\r\n\r\nhello\r\n".encode()
    envelope = Envelope(
        sender="shop@example.com",
        recipients=("jürgen@example.com",),
        size_bytes=len(content),
        needs_smtputf8=True,
    )
    [[outcome]] = send(server.relay(), (envelope, content))
    assert outcome.state is ACCEPTED
    assert "jürgen@example.com" in server.find("Subject: Grüße")


def test_a_message_above_the_announced_size_is_not_even_sent(server: Server) -> None:
    session = connect(server.relay())
    envelope = mail("ada@example.com", size_bytes=2_000_000)[0]
    outcome = session.local_refusal(envelope)
    assert outcome is not None
    assert outcome.fault is Fault.MESSAGE
    # And sent all the same it is refused.
    session.send_envelope(envelope)
    [refused] = session.read_envelope_replies().outcomes()
    session.quit()
    assert refused is not None
    assert (refused.state, refused.fault) == (REJECTED, Fault.MESSAGE)


def test_a_large_body_arrives_whole(server: Server) -> None:
    large = mail("ada@example.com", subject="large", size_bytes=900_000)
    [[outcome]] = send(server.relay(), large)
    assert outcome.state is ACCEPTED
    assert server.find("Subject: large").count("x" * 76) == large[1].count(b"x" * 76)


def test_a_notice_of_delivery_is_asked_for(secure_postfix: Server) -> None:
    notice = DsnOptions(notify=("SUCCESS",), ret="HDRS", envid="order=7")
    envelope, content = mail("ada@example.com", subject="tell me")
    asking = Envelope(
        sender=envelope.sender,
        recipients=envelope.recipients,
        size_bytes=len(content),
        dsn=notice,
    )
    [[outcome]] = send(secure_postfix.relay(), (asking, content))
    assert outcome.state is ACCEPTED
    assert "Action: delivered" in secure_postfix.find("Original-Envelope-Id: order=7")
