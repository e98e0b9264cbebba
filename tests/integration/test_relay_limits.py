"""Whole campaigns over real servers with limits and rules of their own.

What each server wrote down is the witness of what it took; the outbox, of what that cost.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.orm import Session

from postroom import Message, Outbox, WorkerConfig
from postroom.storage import engine as engines
from postroom.storage import schema
from postroom.storage.queries.messages import Attempt
from tests.integration.certificates import Authority
from tests.services.dovecot import Dovecot
from tests.services.exim import Exim
from tests.services.haraka import Haraka
from tests.services.nodemailer import NodeSmtpServer
from tests.services.postfix import Postfix
from tests.services.tap import Tap
from tests.services.waiting import free_port, wait_for

QUICK = WorkerConfig(poll_interval_s=0.05, lease_s=30)


class Campaign:
    """One message to many, over one relay, until nothing is left to be done."""

    def __init__(self, engine: Engine, port: int, options: str = "", scheme: str = "smtp") -> None:
        self.engine = engine
        separator = "&" if options else ""
        self.outbox = Outbox(
            f"{scheme}://127.0.0.1:{port}?tls=off{separator}{options}",
            engine=engine,
            sender="shop@example.com",
            worker=QUICK,
        )

    def send(self, *to: str, shared: bool = False) -> None:
        """Enqueue a message, and work until the queue is empty."""
        with Session(self.engine) as session, session.begin():
            message = Message(subject="hello", text="Thank you.\n", shared=shared)
            self.receipt = self.outbox.enqueue(session, message, to=to)
        self.outbox.worker().run(until_empty=True)

    def states(self) -> Counter[str]:
        """Return how many recipients of the last message ended in which state."""
        with Session(self.engine) as session:
            recipients = self.outbox.status(session, self.receipt).recipients
        return Counter(str(one.state) for one in recipients)

    def attempts(self) -> list[Attempt]:
        """Return the attempts of the last message."""
        with Session(self.engine) as session:
            return list(self.outbox.attempts(session, self.receipt))

    def deferrals(self) -> list[str]:
        """Return the replies of the attempts that came to nothing."""
        return [one.reply or "" for one in self.attempts() if one.outcome == "deferred"]


@pytest.fixture
def engine(sqlite_url: URL) -> Iterator[Engine]:
    engine = create_engine(sqlite_url)
    engines.configure_sqlite(engine)
    schema.create(engine)
    yield engine
    engine.dispose()


@contextmanager
def campaign(
    engine: Engine, port: int, options: str = "", scheme: str = "smtp"
) -> Iterator[Campaign]:
    made = Campaign(engine, port, options, scheme)
    try:
        yield made
    finally:
        made.outbox.close()


@pytest.fixture(scope="module")
def certificate() -> Iterator[Path]:
    """A certificate that servers may read, which run as users of their own."""
    with tempfile.TemporaryDirectory(prefix="postroom-servers-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        file = folder / "server.pem"
        made = Authority.create(folder).made.issue_cert("127.0.0.1")
        made.private_key_and_cert_chain_pem.write_to_path(file)
        file.chmod(0o644)
        yield file


def people(count: int) -> list[str]:
    return [f"r{number}@example.com" for number in range(count)]


def test_postscreen_finds_nothing_wrong_with_our_manners(engine: Engine) -> None:
    """Its deep protocol tests end in 550 5.5.1 for everyone where a command comes too early."""
    postfix = Postfix(screens=True)
    try:
        with campaign(engine, postfix.port, "connections=1") as sent:
            sent.send("unknown@example.com", *people(60))
            assert sent.states() == {"accepted": 60, "rejected": 1}
        wait_for(lambda: len(postfix.received()) == 60, "Postfix to deliver them")
        assert sorted(postfix.recipients()) == sorted(people(60))
        assert "COMMAND PIPELINING" not in postfix.log()
    finally:
        postfix.remove()


def test_haraka_is_spoken_to_without_pipelining_across_the_dot(engine: Engine, full: bool) -> None:
    haraka = Haraka()
    count = 1_000 if full else 100
    try:
        with campaign(engine, haraka.port) as sent:
            sent.send("unknown@example.com", *people(count))
            assert sent.states() == {"accepted": count, "rejected": 1}
            assert len(sent.attempts()) == count + 1
        assert sorted(haraka.recipients()) == sorted(people(count))
        # No connection learns it twice.
        assert 1 <= haraka.log().count("pipelined after end of DATA - refused") <= 4
    finally:
        haraka.remove()


def test_the_option_spares_haraka_even_the_first_refusal(engine: Engine) -> None:
    haraka = Haraka()
    try:
        with campaign(engine, haraka.port, "pipelining=transaction") as sent:
            sent.send(*people(20))
            assert sent.states() == {"accepted": 20}
        assert "pipelined after end of DATA" not in haraka.log()
    finally:
        haraka.remove()


@pytest.mark.parametrize(
    ("limit", "refusal"),
    [
        ("smtp_accept_max", "refused: too many connections"),
        ("smtp_accept_max_per_host", "refused: too many connections from that IP address"),
    ],
)
def test_exims_limits_of_connections_are_kept_to(
    engine: Engine, certificate: Path, limit: str, refusal: str, full: bool
) -> None:
    count = 1_000 if full else 200
    settings = {limit: "2"} if limit == "smtp_accept_max" else {limit: "2", "smtp_accept_max": "50"}
    exim = Exim(certificate, settings=settings)
    try:
        with campaign(engine, exim.port, "connections=8") as sent:
            sent.send(*people(count))
            assert sent.states() == {"accepted": count}
            assert sent.deferrals() == []
        assert sorted(exim.recipients()) == sorted(people(count))
        assert 1 <= exim.log().count(refusal) <= 12
    finally:
        exim.remove()


def test_exims_limit_of_mails_a_connection_costs_no_mail_a_try(
    engine: Engine, certificate: Path
) -> None:
    exim = Exim(certificate, settings={"smtp_accept_max_per_connection": "5"})
    try:
        with campaign(engine, exim.port, "connections=2") as sent:
            sent.send(*people(50))
            assert sent.states() == {"accepted": 50}
            assert sent.deferrals() == []
        assert sorted(exim.recipients()) == sorted(people(50))
    finally:
        exim.remove()


def test_a_server_with_few_clients_gets_no_more_connections_than_it_takes(
    engine: Engine, certificate: Path, full: bool
) -> None:
    """It refuses at once and greets a tenth of a second later: the refusal comes first."""
    count = 1_000 if full else 100
    node = NodeSmtpServer(certificate, max_clients=2)
    try:
        with campaign(engine, node.port, "connections=8") as sent:
            sent.send(*people(count))
            assert sent.states() == {"accepted": count}
            assert sent.deferrals() == []
        assert sorted(node.recipients()) == sorted(people(count))
        assert 1 <= node.refused() <= 12
    finally:
        node.remove()


def test_postfix_limits_of_connections_are_kept_to(engine: Engine, full: bool) -> None:
    count = 1_000 if full else 100
    settings = {
        "smtpd_client_connection_count_limit": "2",
        "smtpd_client_event_limit_exceptions": "",
    }
    postfix = Postfix(settings)
    try:
        with campaign(engine, postfix.port, "connections=8") as sent:
            sent.send(*people(count))
            assert sent.states() == {"accepted": count}
            assert sent.deferrals() == []
        wait_for(lambda: len(postfix.received()) == count, "Postfix to deliver them")
        assert sorted(postfix.recipients()) == sorted(people(count))
        assert 1 <= postfix.log().count("Connection concurrency limit exceeded") <= 12
    finally:
        postfix.remove()


def test_a_limit_of_messages_a_minute_makes_the_relay_rest(engine: Engine, full: bool) -> None:
    """Anvil counts over three seconds here, and lets 20 through."""
    count = 200 if full else 30
    settings = {
        "smtpd_client_message_rate_limit": "20",
        "smtpd_client_event_limit_exceptions": "",
        "anvil_rate_time_unit": "3s",
    }
    postfix = Postfix(settings)
    try:
        with campaign(engine, postfix.port, "connections=4") as sent:
            sent.send(*people(count))
            assert sent.states() == {"accepted": count}
            # Three faults and those under way make it rest; then one mail at a time is a probe.
            assert 1 <= len(sent.deferrals()) <= 12 * math.ceil(count / 20)
        wait_for(lambda: len(postfix.received()) == count, "Postfix to deliver them")
        assert sorted(postfix.recipients()) == sorted(people(count))
    finally:
        postfix.remove()


@pytest.mark.parametrize("rejects", ["false", "true"], ids=["452", "554 at DATA"])
def test_a_shared_mail_is_split_into_what_exim_takes(
    engine: Engine, certificate: Path, rejects: str, full: bool
) -> None:
    count = 500 if full else 100
    exim = Exim(certificate, settings={"recipients_max": "10", "recipients_max_reject": rejects})
    try:
        with campaign(engine, exim.port) as sent:
            sent.send(*people(count), shared=True)
            assert sent.states() == {"accepted": count}
            assert len(sent.attempts()) == count
        assert sorted(exim.recipients()) == sorted(people(count))
        # The limit is found once or twice, and then kept to.
        assert exim.log().count("too many recipients") <= 4
    finally:
        exim.remove()


class Keeping:
    """What aiosmtpd asks about each mail: it refuses unknown@…, and keeps the rest."""

    def __init__(self) -> None:
        self.recipients: list[str] = []

    async def handle_RCPT(
        self, server: SMTP, session: object, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address.startswith("unknown@"):
            return "550 5.1.1 Unknown user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: object, envelope: Envelope) -> str:
        self.recipients += envelope.rcpt_tos
        return "250 OK"


def test_aiosmtpd_is_spoken_to_one_command_at_a_time(engine: Engine, full: bool) -> None:
    """It announces no PIPELINING."""
    count = 1_000 if full else 60
    keeping = Keeping()
    controller = Controller(keeping, hostname="127.0.0.1", port=free_port())
    controller.start()
    tap = Tap(controller.port)
    try:
        with campaign(engine, tap.port) as sent:
            sent.send("unknown@example.com", *people(count))
            assert sent.states() == {"accepted": count, "rejected": 1}
            assert sent.deferrals() == []
        assert sorted(keeping.recipients) == sorted(people(count))
        assert tap.early == []
    finally:
        tap.close()
        controller.stop()


def test_dovecot_answers_for_each_recipient(engine: Engine) -> None:
    dovecot = Dovecot("ada", "bob", "full")
    try:
        with campaign(engine, dovecot.port, scheme="lmtp") as sent:
            everyone = [f"{name}@example.com" for name in ("ada", "full", "nobody", "bob")]
            sent.send(*everyone, shared=True)
            assert sent.states() == {"accepted": 2, "rejected": 2}
            replies = {one.address: one.reply or "" for one in sent.attempts()}
            assert "Quota exceeded" in replies["full@example.com"]
            assert "User doesn't exist" in replies["nobody@example.com"]
            sent.send(*["ada@example.com", "bob@example.com"])
            assert sent.states() == {"accepted": 2}
        kept = {name: len(dovecot.received(name)) for name in ("ada", "bob", "full")}
        assert kept == {"ada": 2, "bob": 2, "full": 0}
    finally:
        dovecot.remove()
