"""Whom a reply blames, and what becomes of the recipient."""

# ruff: noqa: E501 - replies stand as they were said

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import AuthError, ConnectError, Disconnected, RelayError, RelayTimeout
from postroom.smtp.reply import Outcome, Reply, classify, classify_error, is_out_of_step
from postroom.states import Fault, Phase, RecipientState
from tests.unit.real_replies import REAL_REPLIES, SOURCES, RealReply


def reply(text: str) -> Reply:
    return Reply(code=int(text[:3]), lines=(text[4:],))


@pytest.mark.parametrize("real", REAL_REPLIES, ids=lambda real: f"{real.source}-{real.text[:40]}")
def test_a_real_reply_is_understood(real: RealReply) -> None:
    outcome = classify(real.phase, reply(real.text))
    assert (outcome.state, outcome.fault) == (real.state, real.fault)
    assert outcome.retry_after_s == real.retry_after_s


def test_there_are_many_real_replies_and_each_names_its_source() -> None:
    assert len(REAL_REPLIES) >= 80
    assert {real.source for real in REAL_REPLIES} == set(SOURCES)
    assert all(source.startswith("https://") for source in SOURCES.values())


PHASES = st.sampled_from(Phase)
TEXTS = st.text(max_size=200)


@given(PHASES, st.integers(200, 299), TEXTS)
def test_only_a_2xx_accepts(phase: Phase, code: int, text: str) -> None:
    assert classify(phase, Reply(code=code, lines=(text,))).state is RecipientState.ACCEPTED


@given(PHASES, st.integers(300, 599), TEXTS)
def test_every_refusal_has_somebody_to_blame(phase: Phase, code: int, text: str) -> None:
    outcome = classify(phase, Reply(code=code, lines=(text,)))
    assert outcome.state in {RecipientState.DEFERRED, RecipientState.REJECTED}
    assert outcome.fault is not None
    if code < 500:
        assert outcome.state is RecipientState.DEFERRED


@given(st.integers(400, 599), TEXTS)
def test_nothing_before_mail_is_held_against_a_recipient(code: int, text: str) -> None:
    for phase in (Phase.CONNECT, Phase.GREETING, Phase.EHLO, Phase.STARTTLS, Phase.AUTH):
        outcome = classify(phase, Reply(code=code, lines=(text,)))
        assert outcome.state is RecipientState.DEFERRED
        assert outcome.fault in {Fault.RELAY, Fault.CREDENTIALS}
        assert not outcome.counts_as_try


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("451 4.7.1 try again later", True),
        ("421 4.3.2 shutting down", False),
        ("530 5.7.0 Authentication required", False),
        ("550 5.1.1 unknown", False),
        ("250 2.1.5 ok", False),
    ],
)
def test_only_deferrals_for_the_recipients_or_the_messages_sake_count(
    text: str, counts: bool
) -> None:
    assert classify(Phase.RCPT, reply(text)).counts_as_try is counts


#: Said to the conversation, by postscreen, Postfix, Exim, Haraka, sendmail, Gmail and amavis.
OUT_OF_STEP = [
    (Phase.RCPT, "550 5.5.1 Protocol error"),
    (Phase.MAIL, "503 5.5.1 Error: nested MAIL command"),
    (Phase.RCPT, "503 5.5.1 Error: need MAIL command"),
    (
        Phase.RCPT,
        "503 5.5.0 <ada@example.com>: Recipient address rejected: Improper use of SMTP command pipelining",
    ),
    (Phase.DATA, "554 5.5.1 Error: no valid recipients"),
    (Phase.RCPT, "554 SMTP synchronization error"),
    (Phase.MAIL, "503 Bad sequence of commands - pipelined after end of DATA"),
    (Phase.RCPT, "503 sender not yet given"),
    (Phase.RCPT, "500 unrecognized command"),
    (Phase.RCPT, "502 5.5.2 Error: command not recognized"),
    (Phase.MAIL, "500 5.5.1 Command unrecognized"),
    (Phase.MAIL, "451 4.5.0 SMTP protocol violation, see RFC 2821"),
    (Phase.DOT, "521 5.5.1 Protocol error"),
    (Phase.RCPT, "550 5.5.0 Other or undefined protocol status"),
]


@pytest.mark.parametrize(("phase", "text"), OUT_OF_STEP, ids=lambda value: str(value)[:40])
def test_a_refusal_of_the_conversation_is_nobodys_fault_but_the_relays(
    phase: Phase, text: str
) -> None:
    outcome = classify(phase, reply(text))
    assert (outcome.state, outcome.fault) == (RecipientState.DEFERRED, Fault.RELAY)
    assert not outcome.counts_as_try
    assert is_out_of_step(phase, reply(text))


#: Said of one address or one content, though the code is one of the protocol's.
OF_AN_ADDRESS = [
    (Phase.RCPT, "550 5.5.0 Requested action not taken: mailbox unavailable", Fault.RECIPIENT),
    (Phase.RCPT, "550 5.5.1 Recipient rejected", Fault.RECIPIENT),
    (Phase.RCPT, "501 5.5.4 Invalid Address", Fault.RECIPIENT),
    (Phase.RCPT, "501 5.5.2 Syntax error in parameters or arguments", Fault.RECIPIENT),
    (Phase.RCPT, "553 5.5.4 <ada>... Domain name required", Fault.RECIPIENT),
    (Phase.RCPT, "500 5.5.2 Line too long", Fault.RECIPIENT),
    (Phase.MAIL, "501 5.5.4 Syntax: MAIL FROM:<address>", Fault.MESSAGE),
    (Phase.MAIL, "553 5.5.4 <shop>... Domain name required for sender address", Fault.MESSAGE),
    (Phase.DOT, "554 5.5.0 Refused", Fault.MESSAGE),
    (Phase.DOT, "550 5.5.2 Error: bare <LF> received", Fault.MESSAGE),
]


@pytest.mark.parametrize(("phase", "text", "fault"), OF_AN_ADDRESS, ids=str)
def test_a_protocol_code_for_one_address_or_content_still_means_that_one(
    phase: Phase, text: str, fault: Fault
) -> None:
    outcome = classify(phase, reply(text))
    assert (outcome.state, outcome.fault) == (RecipientState.REJECTED, fault)
    assert not is_out_of_step(phase, reply(text))


@pytest.mark.parametrize("phase", [Phase.DATA, Phase.DOT])
def test_too_many_recipients_never_reject_anybody(phase: Phase) -> None:
    outcome = classify(phase, reply("554 Too many recipients"))
    assert outcome.state is RecipientState.DEFERRED


@given(PHASES, TEXTS)
def test_a_503_never_rejects(phase: Phase, text: str) -> None:
    assert classify(phase, Reply(code=503, lines=(text,))).state is RecipientState.DEFERRED


def test_a_reply_reads_as_one_line_without_repeating_its_enhanced_code() -> None:
    said = Reply(code=550, lines=("5.1.1 The account does not exist.", "5.1.1 Check the address."))
    assert said.enhanced == "5.1.1"
    assert said.text == "The account does not exist. Check the address."
    assert str(said) == "550 5.1.1 The account does not exist. Check the address."


@pytest.mark.parametrize("line", ["1.2.3.4 is blocked", "5.1.1x", "5.1", "", "4.7.1, later"])
def test_what_only_looks_like_an_enhanced_code_is_text(line: str) -> None:
    assert Reply(code=550, lines=(line,)).enhanced is None
    assert Reply(code=550, lines=(line,)).text == line


def test_a_broken_conversation_defers_and_blames_the_relay() -> None:
    outcome = classify_error(Disconnected("gone", phase=Phase.BODY))
    assert (outcome.state, outcome.fault) == (RecipientState.DEFERRED, Fault.RELAY)
    assert outcome.reply == Reply(code=0, lines=("gone",))
    assert str(outcome.reply) == "gone"


def test_a_refused_login_blames_the_credentials() -> None:
    assert classify_error(AuthError("no", phase=Phase.AUTH)).fault is Fault.CREDENTIALS


def test_what_the_relay_said_before_it_hung_up_decides() -> None:
    said = reply("552 5.3.4 message too large")
    outcome = classify_error(Disconnected("gone", phase=Phase.BODY, reply=said))
    assert (outcome.state, outcome.fault) == (RecipientState.REJECTED, Fault.MESSAGE)
    assert outcome.reply is said


def test_a_greeting_that_refuses_us_never_rejects_a_recipient() -> None:
    said = reply("554 no mail from you")
    outcome = classify_error(ConnectError("refused", phase=Phase.GREETING, reply=said))
    assert (outcome.state, outcome.fault) == (RecipientState.DEFERRED, Fault.RELAY)


@pytest.mark.parametrize("kind", [Disconnected, RelayTimeout, RelayError])
def test_after_the_dot_a_failure_is_in_doubt(kind: type[RelayError]) -> None:
    outcome = classify_error(kind("gone", phase=Phase.DOT, in_doubt=True))
    assert (outcome.state, outcome.phase) == (RecipientState.IN_DOUBT, Phase.DOT)
    assert not outcome.counts_as_try


def test_at_once_is_a_deferral_with_nothing_to_wait_for() -> None:
    assert Outcome(state=RecipientState.DEFERRED, retry_after_s=0).retry_immediately
    assert not Outcome(state=RecipientState.DEFERRED, retry_after_s=60).retry_immediately
    assert not Outcome(state=RecipientState.DEFERRED).retry_immediately
