"""Without PIPELINING every command waits for the reply to the one before it, in any state."""

from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.relays.relay import Relay
from postroom.smtp.reply import Outcome
from postroom.states import Phase, RecipientState
from postroom.testing import FaultyRelay, Misbehavior, ServerOptions
from tests.faults.smtp_client import Mail, SmtpClient, mail
from tests.services.tap import Tap

STEPWISE = ServerOptions().without("PIPELINING")
ACCEPTED, REJECTED = RecipientState.ACCEPTED, RecipientState.REJECTED


def overheard(
    relay: FaultyRelay, *mails: Mail, scheme: str = "smtp", login: str = "", options: str = ""
) -> tuple[list[list[Outcome]], Tap]:
    """Send ``mails`` with somebody listening; return their outcomes, and who listened."""
    tap = Tap(relay.port, is_lmtp=scheme == "lmtp")
    url = f"{scheme}://{login}127.0.0.1:{tap.port}?tls=off&auth_over_clear=yes{options}"
    with closing(tap), closing(SmtpClient(Relay.parse(url))) as speaker:
        return speaker.send(*mails), tap


def test_after_a_refusal_rset_waits_for_its_reply_before_mail_follows() -> None:
    with FaultyRelay(STEPWISE) as relay:
        relay.on(Phase.RCPT, "550 5.1.1 unknown", address="nobody@example.com")
        outcomes, tap = overheard(relay, mail("nobody@example.com"), mail("ada@example.com"))
    assert [outcome.state for [outcome] in outcomes] == [REJECTED, ACCEPTED]
    assert b"RSET\r\n" in tap.writes
    assert tap.early == []


def test_with_pipelining_nothing_needs_to_wait() -> None:
    """The tap would notice: what it calls early is what makes us fast elsewhere."""
    with FaultyRelay() as relay:
        relay.on(Phase.RCPT, "550 5.1.1 unknown", address="nobody@example.com")
        outcomes, tap = overheard(relay, mail("nobody@example.com"), mail("ada@example.com"))
    assert [outcome.state for [outcome] in outcomes] == [REJECTED, ACCEPTED]
    assert tap.early


ANSWERS = [
    "250 2.0.0 yes",
    "421 4.3.2 closing",
    "451 4.7.1 later",
    "452 4.5.3 too many recipients",
    "503 5.5.1 out of step",
    "550 5.1.1 unknown",
    "550 5.5.1 Protocol error",
    "552 too many recipients",
    "554 Too many recipients",
]
AT_DATA = ["354 go on", *ANSWERS[1:]]


@st.composite
def scripts(draw: st.DrawFn) -> list[tuple[Phase, str]]:
    phases = st.sampled_from([Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT])
    return [
        (phase, draw(st.sampled_from(AT_DATA if phase is Phase.DATA else ANSWERS)))
        for phase in draw(st.lists(phases, max_size=8))
    ]


@given(
    scripts(),
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
    st.sampled_from(["smtp", "lmtp", "helo", "login", "off"]),
)
def test_one_command_at_a_time_whatever_is_refused(
    script: list[tuple[Phase, str]], sizes: list[int], how: str
) -> None:
    """The answers of the script are given in their order, each once."""
    abilities = ServerOptions(
        extensions=ServerOptions().extensions if how == "off" else STEPWISE.extensions,
        has_esmtp=how != "helo",
        is_lmtp=how == "lmtp",
        credentials={"user": "secret"} if how == "login" else {},
    )
    with FaultyRelay(abilities) as relay:
        for phase, answer in script:
            relay.on(phase, answer, times=1)
        mails = [
            mail(*(f"r{one}@example.com" for one in range(size)), subject=str(number))
            for number, size in enumerate(sizes)
        ]
        outcomes, tap = overheard(
            relay,
            *mails,
            scheme="lmtp" if how == "lmtp" else "smtp",
            login="user:secret@" if how == "login" else "",
            options="&pipelining=off" if how == "off" else "",
        )
        took = sum(len(sent.recipients) for sent in relay.accepted)
    assert tap.early == []
    said = [outcome.state for each in outcomes for outcome in each]
    assert len(said) == sum(sizes)
    assert said.count(ACCEPTED) == took


@pytest.mark.parametrize("trouble", [Misbehavior.CLOSE, Misbehavior.GARBAGE, Misbehavior.REFUSE])
@pytest.mark.parametrize("phase", [Phase.EHLO, Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT])
def test_nothing_is_said_out_of_turn_after_a_trouble(phase: Phase, trouble: Misbehavior) -> None:
    with FaultyRelay(STEPWISE) as relay:
        relay.on(phase, trouble, times=1)
        _, tap = overheard(relay, mail("ada@example.com"), mail("bob@example.com"))
    assert tap.early == []
