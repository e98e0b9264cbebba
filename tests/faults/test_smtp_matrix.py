"""Everything that can go wrong, in every phase, with and without PIPELINING and TLS.

For each cell: what is decided for each recipient, how many copies the relay has, and that the
next mail is unharmed.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from postroom.relays.relay import Relay
from postroom.states import Fault, Phase, RecipientState
from postroom.testing import FaultyRelay, Misbehavior, ServerOptions
from tests.faults.smtp_client import SmtpClient, mail

#: Long enough for every step that is not stuck, on a machine with other work to do.
PATIENT_S = 10.0
#: What ends a stuck step.
IMPATIENT_S = 0.15

#: More than the sockets of both sides hold, so that a relay that does not read is noticed.
BIG = 12 * 1024 * 1024

ANSWERS = {
    "421": "421 4.3.2 shutting down",
    "4xx": "451 4.7.1 please try again later",
    "5xx": "550 5.7.1 refused by policy",
}
TROUBLES = {trouble.value: trouble for trouble in Misbehavior}
FAULTS = [*TROUBLES, *ANSWERS]
#: Faults that only a deadline ends.
SLOW = {(fault, phase) for fault in ("stall", "drip") for phase in Phase} | {
    ("endless", Phase.BODY)
}
#: The connection is gone, or of no use, when these have happened.
CUTTING = {"reset", "close", "stall", "drip", "garbage", "endless"}

DEFERRED, REJECTED = RecipientState.DEFERRED, RecipientState.REJECTED
ACCEPTED, IN_DOUBT = RecipientState.ACCEPTED, RecipientState.IN_DOUBT

Verdict = tuple[RecipientState, Fault | None]
RELAY_FAILED: Verdict = (DEFERRED, Fault.RELAY)
LOGIN_FAILED: Verdict = (DEFERRED, Fault.CREDENTIALS)
WENT_OUT: Verdict = (ACCEPTED, None)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS settings, and the file of the authority behind them."""
    made = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.issue_cert("127.0.0.1").configure_cert(context)
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    made.cert_pem.write_to_path(file)
    return context, file


@pytest.fixture
def relay(
    phase: Phase, *, pipelining: bool, tls: bool, authority: tuple[ssl.SSLContext, Path]
) -> Iterator[FaultyRelay]:
    context, _ = authority
    # Without TLS the phase of STARTTLS is that of opportunistic encryption.
    abilities = ServerOptions(
        tls=context if tls or phase is Phase.STARTTLS else None,
        is_tls_from_start=tls and phase is Phase.CONNECT,
        credentials={"user": "secret"} if phase is Phase.AUTH else {},
    )
    with FaultyRelay(abilities if pipelining else abilities.without("PIPELINING")) as relay:
        yield relay


def timeouts(fault: str, phase: Phase) -> dict[str, float]:
    """Return the deadline of each step; only the one that gets stuck is short."""
    patient = dict.fromkeys(
        ("connect_timeout", "command_timeout", "body_timeout", "dot_timeout"), PATIENT_S
    )
    if (fault, phase) not in SLOW:
        return patient
    stuck = {
        Phase.CONNECT: ("connect_timeout", "command_timeout"),
        Phase.STARTTLS: ("connect_timeout", "command_timeout"),
        Phase.BODY: ("body_timeout",),
        Phase.DOT: ("dot_timeout",),
    }.get(phase, ("command_timeout",))
    return patient | dict.fromkeys(stuck, IMPATIENT_S)


def relay_for(relay: FaultyRelay, ca: Path, fault: str, phase: Phase, *, tls: bool) -> Relay:
    options = [f"{name}={time_s}s" for name, time_s in timeouts(fault, phase).items()]
    if relay.abilities.tls is not None:
        options.append(f"ca={ca}" if tls else "tls=opportunistic")
    return Relay.parse(relay.url + ("&" if "?" in relay.url else "?") + "&".join(options))


@pytest.fixture
def client(
    relay: FaultyRelay,
    authority: tuple[ssl.SSLContext, Path],
    fault: str,
    phase: Phase,
    *,
    tls: bool,
) -> Iterator[SmtpClient]:
    with closing(SmtpClient(relay_for(relay, authority[1], fault, phase, tls=tls))) as client:
        yield client


def handshake_verdict(fault: str, phase: Phase, *, tls: bool) -> Verdict:
    if phase is Phase.AUTH and fault in {"5xx", "refuse"}:
        return LOGIN_FAILED
    if phase is Phase.EHLO and fault == "5xx" and not tls:
        return WENT_OUT  # HELO will do
    if phase is Phase.STARTTLS and fault in {"4xx", "5xx"} and not tls:
        return WENT_OUT  # opportunistic: in the clear, then
    return RELAY_FAILED


def refusal(fault: str, whose: Fault) -> Verdict:
    if fault == "421":
        return RELAY_FAILED
    return (DEFERRED if fault == "4xx" else REJECTED), whose


def verdicts(fault: str, phase: Phase, *, tls: bool) -> tuple[Verdict, Verdict]:
    """Return what has to become of the first recipient, where RCPT fails, and of the second."""
    if phase in {Phase.CONNECT, Phase.GREETING, Phase.EHLO, Phase.STARTTLS, Phase.AUTH}:
        both = handshake_verdict(fault, phase, tls=tls)
        return both, both
    if fault in CUTTING:
        both = (IN_DOUBT if phase is Phase.DOT else DEFERRED), Fault.RELAY
        return both, both
    if phase is Phase.RCPT:
        if fault in {"421", "refuse"}:
            return RELAY_FAILED, RELAY_FAILED
        return refusal(fault, Fault.RECIPIENT), WENT_OUT
    # REFUSE says 554 5.3.2, which blames the relay; a policy blames the message.
    both = RELAY_FAILED if fault == "refuse" else refusal(fault, Fault.MESSAGE)
    return both, both


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("pipelining", [False, True], ids=["step-by-step", "pipelining"])
@pytest.mark.parametrize("phase", Phase, ids=str)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_blamed_aright_and_the_next_mail_unharmed(
    relay: FaultyRelay, client: SmtpClient, fault: str, phase: Phase, pipelining: bool, tls: bool
) -> None:
    if (fault, phase) == ("refuse", Phase.CONNECT):
        relay.refuse()
    else:
        address = "first@example.com" if phase is Phase.RCPT else None
        relay.on(phase, (TROUBLES | ANSWERS)[fault], address=address, times=1)
    size = BIG if phase is Phase.BODY else 200
    [outcomes] = client.send(mail("first@example.com", "second@example.com", size_bytes=size))

    expected = verdicts(fault, phase, tls=tls)
    assert [(outcome.state, outcome.fault) for outcome in outcomes] == list(expected)
    accepted = [
        recipient
        for recipient, verdict in zip(("first", "second"), expected, strict=True)
        if verdict == WENT_OUT
    ]
    copies = [name.partition("@")[0] for sent in relay.accepted for name in sent.recipients]
    assert copies == accepted

    relay.behave()
    relay.serve()
    before = len(relay.accepted)
    [[outcome]] = client.send(mail("third@example.com", subject="unharmed"))
    assert outcome.state is ACCEPTED, outcome
    [received] = relay.accepted[before:]
    assert received.recipients == ("third@example.com",)
    assert received.content.startswith(b"Subject: unharmed\r\n")


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("pipelining", [False, True], ids=["step-by-step", "pipelining"])
@pytest.mark.parametrize("phase", [Phase.DOT], ids=str)
@pytest.mark.parametrize("fault", sorted(CUTTING))
@pytest.mark.parametrize("copies", [0, 1], ids=["before-accepting", "after-accepting"])
def test_after_the_dot_only_the_mail_before_it_is_in_doubt(
    relay: FaultyRelay,
    client: SmtpClient,
    fault: str,
    phase: Phase,
    pipelining: bool,
    tls: bool,
    copies: int,
) -> None:
    relay.on(Phase.DOT, TROUBLES[fault], times=1, after_accepting=bool(copies))
    first, second = client.send(
        mail("first@example.com", subject="doubtful"),
        mail("second@example.com", subject="opened with the dot of the first"),
    )
    assert [outcome.state for outcome in (*first, *second)] == [IN_DOUBT, ACCEPTED]
    received = [sent.recipients for sent in relay.accepted]
    assert received == [("first@example.com",)] * copies + [("second@example.com",)]
