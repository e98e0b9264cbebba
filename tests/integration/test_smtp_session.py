"""Transactions on a session: what is written, what is read, and what becomes of whom."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from postroom.errors import Disconnected, InvalidAddress, RelayError, RelayTimeout
from postroom.message.envelope import DsnOptions, Envelope
from postroom.relays.relay import Relay
from postroom.smtp.reply import Outcome
from postroom.smtp.session import Session, connect
from postroom.states import Fault, Phase, RecipientState
from postroom.testing import FaultyRelay, Misbehavior, ServerOptions
from tests.clock import Clock
from tests.faults.smtp_client import SmtpClient, mail

DEFERRED, REJECTED, ACCEPTED = (
    RecipientState.DEFERRED,
    RecipientState.REJECTED,
    RecipientState.ACCEPTED,
)


@contextmanager
def connected(
    relay: FaultyRelay, options: str = "", clock: Clock | None = None
) -> Iterator[Session]:
    url = Relay.parse(f"{relay.url}&{options}" if options else relay.url)
    session = connect(url, clock=clock) if clock else connect(url)
    try:
        yield session
    finally:
        session.quit()


@contextmanager
def speaking(relay: FaultyRelay, options: str = "") -> Iterator[SmtpClient]:
    speaker = SmtpClient(Relay.parse(f"{relay.url}&{options}" if options else relay.url))
    try:
        yield speaker
    finally:
        speaker.close()


def states(outcomes: list[Outcome]) -> list[RecipientState]:
    return [outcome.state for outcome in outcomes]


# One transaction after the other


def test_a_mail_arrives_as_it_was_written() -> None:
    with FaultyRelay() as relay, speaking(relay) as speaker:
        envelope, content = mail("ada@example.com", size_bytes=5000)
        [[outcome]] = speaker.send((envelope, content))
        assert outcome.state is ACCEPTED
        [received] = relay.accepted
        assert received.sender == "shop@example.com"
        assert received.recipients == ("ada@example.com",)
        assert received.content == content


def test_many_mails_take_one_connection_and_one_write_more_each() -> None:
    with FaultyRelay() as relay, speaking(relay) as speaker:
        outcomes = speaker.send(*(mail(f"user{n}@example.com") for n in range(50)))
        assert {outcome.state for [outcome] in outcomes} == {ACCEPTED}
        assert relay.connections == 1
        assert len(relay.accepted) == 50


def test_the_next_mail_is_opened_with_the_final_dot_of_the_one_before() -> None:
    """The relay waits before it says anything: two mails cost what their bodies cost."""
    with FaultyRelay() as relay, connected(relay) as session:
        envelope, content = mail("ada@example.com")
        session.send_envelope(envelope)
        assert session.read_envelope_replies().is_ready_for_content
        session.send_content([content])
        session.end_data(envelope)
        # Nothing more was written for the second one, and yet it is open.
        replies = session.read_envelope_replies()
        assert replies.is_ready_for_content
        assert replies.mail is not None
        session.send_content([content])
        session.end_data()
    assert len(relay.accepted) == 2


@pytest.mark.parametrize("sizes", [[10], [70_000], [100, 70_000, 5], [262_144] * 9])
def test_a_body_of_any_size_arrives_whole(sizes: list[int]) -> None:
    chunks = [b"x" * (size - 2) + b"\r\n" for size in sizes]
    with FaultyRelay() as relay, connected(relay) as session:
        session.send_envelope(
            Envelope(sender="", recipients=("ada@example.com",), size_bytes=sum(sizes))
        )
        session.read_envelope_replies()
        session.send_content(iter(chunks))
        session.end_data()
        [received] = relay.accepted
        assert received.content == b"".join(chunks)
        assert received.sender == ""


def test_a_relay_without_pipelining_is_spoken_to_step_by_step() -> None:
    options = ServerOptions().without("PIPELINING")
    with FaultyRelay(options) as relay, speaking(relay) as speaker:
        relay.on(Phase.RCPT, "550 5.1.1 unknown", address="b@example.com")
        first, second = speaker.send(
            mail("a@example.com", "b@example.com", "c@example.com"), mail("d@example.com")
        )
        assert states(first) == [ACCEPTED, REJECTED, ACCEPTED]
        assert states(second) == [ACCEPTED]
        assert relay.connections == 1


# Several recipients


def test_every_reply_is_kept_to_its_recipient() -> None:
    with FaultyRelay() as relay, speaking(relay) as speaker:
        relay.on(Phase.RCPT, "550 5.1.1 unknown", address="b@example.com")
        relay.on(Phase.RCPT, "451 4.7.1 greylisted for 60 seconds", address="c@example.com")
        [outcomes] = speaker.send(mail(*(f"{name}@example.com" for name in "abcd")))
        assert states(outcomes) == [ACCEPTED, REJECTED, DEFERRED, ACCEPTED]
        assert [outcome.fault for outcome in outcomes] == [
            None,
            Fault.RECIPIENT,
            Fault.RECIPIENT,
            None,
        ]
        assert outcomes[2].retry_after_s == 60
        assert relay.accepted[0].recipients == ("a@example.com", "d@example.com")


def test_a_thousand_recipients_go_in_one_transaction_without_a_deadlock() -> None:
    with FaultyRelay() as relay, speaking(relay) as speaker:
        recipients = [f"user{number}@example.com" for number in range(1000)]
        relay.on(Phase.RCPT, "550 5.1.1 unknown", address="user777@example.com")
        [outcomes] = speaker.send(mail(*recipients))
        assert [n for n, outcome in enumerate(outcomes) if outcome.state is REJECTED] == [777]
        assert len(relay.accepted) == 1
        assert len(relay.accepted[0].recipients) == 999


@pytest.mark.parametrize("pipelining", [True, False])
def test_too_many_recipients_are_left_for_another_transaction_at_once(pipelining: bool) -> None:
    options = ServerOptions(max_recipients=2)
    options = options if pipelining else options.without("PIPELINING")
    with FaultyRelay(options) as relay, connected(relay) as session:
        envelope, content = mail(*(f"{name}@example.com" for name in "abcde"))
        session.send_envelope(envelope)
        replies = session.read_envelope_replies()
        outcomes = replies.outcomes()
        assert outcomes[:2] == (None, None)
        assert replies.excess_recipients == (2, 3, 4)
        assert all(outcome is not None and outcome.retry_immediately for outcome in outcomes[2:])
        assert not any(outcome is not None and outcome.counts_as_try for outcome in outcomes)
        assert session.max_recipients == 2
        session.send_content([content])
        assert len(session.end_data()) == 2
        # The limit is remembered, and the session goes on.
        assert session.is_usable


def test_where_data_is_refused_for_their_number_those_who_stood_are_too_many_as_well() -> None:
    """As Exim with recipients_max_reject: 552 to the ones above its limit, and then 554 to all."""
    with FaultyRelay() as relay, connected(relay) as session:
        relay.on(Phase.RCPT, "552 too many recipients", address="c@example.com")
        relay.on(Phase.RCPT, "552 too many recipients", address="d@example.com")
        relay.on(Phase.DATA, "554 Too many recipients")
        session.send_envelope(mail(*(f"{name}@example.com" for name in "abcd"))[0])
        replies = session.read_envelope_replies()
        assert replies.excess_recipients == (0, 1, 2, 3)
        assert all(
            outcome is not None and outcome.retry_immediately for outcome in replies.outcomes()
        )
        assert session.max_recipients == 2
        assert session.is_usable


def test_where_only_data_says_too_many_half_of_them_are_tried_next() -> None:
    with FaultyRelay() as relay, connected(relay) as session:
        relay.on(Phase.DATA, "550 5.5.3 Too many recipients", times=1)
        session.send_envelope(mail(*(f"{name}@example.com" for name in "abcde"))[0])
        assert session.read_envelope_replies().excess_recipients == (0, 1, 2, 3, 4)
        assert session.max_recipients == 2


def test_a_single_recipient_whom_data_calls_too_many_is_not_tried_again_at_once() -> None:
    with FaultyRelay() as relay, connected(relay) as session:
        relay.on(Phase.DATA, "554 Too many recipients")
        session.send_envelope(mail("ada@example.com")[0])
        [outcome] = session.read_envelope_replies().outcomes()
        assert outcome is not None
        assert outcome.state is DEFERRED
        assert not outcome.retry_immediately


def test_a_refusal_between_them_does_not_count_against_the_limit() -> None:
    with FaultyRelay(ServerOptions(max_recipients=3)) as relay, connected(relay) as session:
        relay.on(Phase.RCPT, "550 5.1.1 unknown", address="b@example.com")
        session.send_envelope(mail(*(f"{name}@example.com" for name in "abcdef"))[0])
        session.read_envelope_replies()
        # Three stood; the refused one may have counted, or not.
        assert session.max_recipients == 4


def test_one_recipient_alone_is_never_too_many() -> None:
    """Else it would be tried again at once, for ever: then it is a quota."""
    with FaultyRelay(ServerOptions(max_recipients=0)) as relay, connected(relay) as session:
        session.send_envelope(mail("ada@example.com")[0])
        [outcome] = session.read_envelope_replies().outcomes()
        assert outcome is not None
        assert outcome.state is DEFERRED
        assert not outcome.retry_immediately


# Openings that do not open (RFC 2920 section 3.1)


def test_where_nobody_stands_data_is_refused_and_the_session_goes_on() -> None:
    with FaultyRelay() as relay, speaking(relay) as speaker:
        relay.on(Phase.RCPT, "550 5.1.1 unknown", address="nobody@example.com")
        first, second, third = speaker.send(
            mail("ada@example.com"), mail("nobody@example.com"), mail("bob@example.com")
        )
        assert states([*first, *second, *third]) == [ACCEPTED, REJECTED, ACCEPTED]
        assert relay.connections == 1
        assert [sent.recipients for sent in relay.accepted] == [
            ("ada@example.com",),
            ("bob@example.com",),
        ]


def test_where_nobody_stands_and_data_begins_all_the_same_it_ends_with_a_bare_dot() -> None:
    with FaultyRelay() as relay, speaking(relay) as speaker:
        relay.on(Phase.RCPT, "550 5.1.1 unknown", address="nobody@example.com")
        relay.on(Phase.DATA, "354 go ahead, whoever it is for", times=1)
        first, second = speaker.send(mail("nobody@example.com"), mail("ada@example.com"))
        assert states([*first, *second]) == [REJECTED, ACCEPTED]
        assert relay.connections == 1
        assert [sent.recipients for sent in relay.accepted] == [("ada@example.com",)]


def test_where_mail_is_refused_nothing_is_left_behind() -> None:
    with FaultyRelay() as relay, speaking(relay) as speaker:
        relay.on(Phase.MAIL, "550 5.7.1 not this sender", times=1)
        first, second = speaker.send(mail("a@example.com"), mail("b@example.com"))
        assert [outcome.fault for outcome in first] == [Fault.MESSAGE]
        assert states([*first, *second]) == [REJECTED, ACCEPTED]
        assert relay.connections == 1


def test_where_data_is_refused_those_who_stood_share_the_refusal() -> None:
    with FaultyRelay() as relay, speaking(relay) as speaker:
        relay.on(Phase.DATA, "451 4.3.0 not now", times=1)
        relay.on(Phase.RCPT, "550 5.1.1 unknown", address="b@example.com")
        first, second = speaker.send(mail("a@example.com", "b@example.com"), mail("c@example.com"))
        assert states(first) == [DEFERRED, REJECTED]
        assert states(second) == [ACCEPTED]
        assert relay.connections == 1


def test_what_is_refused_for_having_come_with_the_dot_is_tried_again_at_once() -> None:
    with FaultyRelay(ServerOptions(refuses_early=True)) as relay, speaking(relay) as speaker:
        first, second, third = speaker.send(*(mail(f"{name}@example.com") for name in "abc"))
        assert states([*first, *second, *third]) == [ACCEPTED, ACCEPTED, ACCEPTED]
        received = [sent.recipients[0] for sent in relay.accepted]
        assert received == ["a@example.com", "b@example.com", "c@example.com"]


def test_a_session_says_that_its_early_opening_was_refused() -> None:
    with FaultyRelay(ServerOptions(refuses_early=True)) as relay, connected(relay) as session:
        envelope, content = mail("ada@example.com", "bob@example.com")
        session.send_envelope(envelope)
        session.read_envelope_replies()
        session.send_content([content])
        session.end_data(next_envelope=envelope)
        replies = session.read_envelope_replies()
        assert session.refuses_early
        assert all(
            outcome is not None and outcome.retry_immediately for outcome in replies.outcomes()
        )
        assert not session.is_usable
        assert len(relay.accepted) == 1


@pytest.mark.parametrize("option", ["transaction", "off"])
def test_the_final_dot_stands_alone_where_the_url_says_so(option: str) -> None:
    options = ServerOptions(refuses_early=True)
    with (
        FaultyRelay(options) as relay,
        speaking(relay, f"pipelining={option}") as speaker,
    ):
        outcomes = speaker.send(*(mail(f"r{n}@example.com") for n in range(5)))
        assert {outcome.state for [outcome] in outcomes} == {ACCEPTED}
        assert relay.connections == 1


def test_an_early_opening_that_is_refused_by_the_way_is_refused_like_any_other() -> None:
    """A 550 to MAIL is about the mail, wherever MAIL stood."""
    with FaultyRelay() as relay, speaking(relay) as speaker:
        relay.on(Phase.MAIL, "250 ok", times=1)
        relay.on(Phase.MAIL, "550 5.7.1 not this sender", times=1)
        first, second = speaker.send(mail("a@example.com"), mail("b@example.com"))
        assert states([*first, *second]) == [ACCEPTED, REJECTED]


def test_after_a_protocol_error_at_one_recipient_the_connection_is_left() -> None:
    with FaultyRelay() as relay, connected(relay) as session:
        relay.on(Phase.RCPT, "550 5.1.1 unknown", address="a@example.com")
        relay.on(Phase.RCPT, "550 5.5.1 Protocol error", address="b@example.com")
        session.send_envelope(mail("a@example.com", "b@example.com")[0])
        outcomes = [outcome for outcome in session.read_envelope_replies().outcomes() if outcome]
        assert states(outcomes) == [REJECTED, DEFERRED]
        assert [outcome.fault for outcome in outcomes] == [Fault.RECIPIENT, Fault.RELAY]
        assert not session.is_usable


def test_a_relay_that_is_out_of_step_is_left() -> None:
    with FaultyRelay() as relay, connected(relay) as session:
        relay.on(Phase.MAIL, "503 5.5.1 nested MAIL", times=1)
        session.send_envelope(mail("ada@example.com")[0])
        [outcome] = session.read_envelope_replies().outcomes()
        assert outcome is not None
        assert (outcome.state, outcome.fault) == (DEFERRED, Fault.RELAY)
        assert not session.is_usable


@pytest.mark.parametrize(
    ("phase", "answer"),
    [
        (Phase.MAIL, "354 go ahead"),
        (Phase.RCPT, "334 what"),
        (Phase.DATA, "250 ok"),
    ],
)
def test_an_answer_to_something_else_ends_the_session(phase: Phase, answer: str) -> None:
    with FaultyRelay() as relay, connected(relay) as session:
        relay.on(phase, answer)
        session.send_envelope(mail("ada@example.com")[0])
        with pytest.raises(Disconnected, match="out of step"):
            session.read_envelope_replies()
        assert not session.is_usable


def test_an_answer_to_something_else_after_the_dot_is_in_doubt() -> None:
    with FaultyRelay() as relay, connected(relay) as session:
        relay.on(Phase.DOT, "354 go ahead")
        envelope, content = mail("ada@example.com")
        session.send_envelope(envelope)
        session.read_envelope_replies()
        session.send_content([content])
        with pytest.raises(Disconnected) as broken:
            session.end_data()
        assert broken.value.in_doubt


def test_a_421_between_recipients_defers_those_it_leaves_unanswered() -> None:
    with FaultyRelay() as relay, connected(relay) as session:
        relay.on(Phase.RCPT, "550 5.1.1 unknown", address="a@example.com")
        relay.on(Phase.RCPT, "421 4.3.2 shutting down", address="b@example.com")
        session.send_envelope(mail("a@example.com", "b@example.com", "c@example.com")[0])
        replies = session.read_envelope_replies()
        assert not replies.is_ready_for_content
        outcomes = [outcome for outcome in replies.outcomes() if outcome is not None]
        assert states(outcomes) == [REJECTED, DEFERRED, DEFERRED]
        assert outcomes[2].fault is Fault.RELAY
        assert not session.is_usable


# Connections that have been used, or not for a while


def test_a_connection_closed_between_mails_is_noticed_before_it_is_used() -> None:
    with FaultyRelay() as relay, speaking(relay) as speaker:
        assert states(speaker.send(mail("a@example.com"))[0]) == [ACCEPTED]
        session = speaker.session
        assert session is not None
        assert session.is_usable
        relay.hang_up()
        assert states(speaker.send(mail("b@example.com"))[0]) == [ACCEPTED]
        assert len(relay.accepted) == 2


def test_a_relay_that_hangs_up_with_421_between_mails_costs_nothing() -> None:
    with FaultyRelay() as relay, connected(relay) as session:
        relay.on(Phase.MAIL, "421 4.4.2 that was enough", address="shop@example.com")
        session.send_envelope(Envelope(sender="", recipients=("a@example.com",), size_bytes=2))
        session.read_envelope_replies()
        session.send_content([b"\r\n"])
        session.end_data(mail("b@example.com")[0])
        replies = session.read_envelope_replies()
        assert replies.is_stale
        [outcome] = replies.outcomes()
        assert outcome is not None
        assert outcome.retry_immediately
        assert outcome.fault is None
        assert not session.is_usable


def test_a_relay_that_answers_421_to_the_first_mail_is_at_fault() -> None:
    with FaultyRelay() as relay, connected(relay) as session:
        relay.on(Phase.MAIL, "421 4.3.2 not today")
        session.send_envelope(mail("a@example.com")[0])
        [outcome] = session.read_envelope_replies().outcomes()
        assert outcome is not None
        assert not outcome.retry_immediately
        assert outcome.fault is Fault.RELAY


def test_a_session_is_used_no_longer_than_it_may_be_idle() -> None:
    clock = Clock()
    with FaultyRelay() as relay, connected(relay, "idle=9s", clock) as session:
        clock.now = 8.9
        assert session.is_usable
        clock.now = 9
        assert not session.is_usable
        assert relay.connections == 1


def test_a_session_begins_nothing_in_the_second_half_of_its_life() -> None:
    clock = Clock()
    with FaultyRelay() as relay, connected(relay, "session_timeout=100s&idle=1h", clock) as session:
        clock.now = 49.9
        assert session.is_usable
        clock.now = 50
        assert not session.is_usable
        assert relay.accepted == []


def test_a_session_carries_no_more_mails_than_it_may() -> None:
    with FaultyRelay() as relay, speaking(relay, "max_messages=3") as speaker:
        outcomes = speaker.send(*(mail(f"user{n}@example.com") for n in range(7)))
        assert {outcome.state for [outcome] in outcomes} == {ACCEPTED}
        assert [sent.connection for sent in relay.accepted] == [1, 1, 1, 2, 2, 2, 3]


def test_a_relay_may_announce_its_limits() -> None:
    options = ServerOptions(extensions=("PIPELINING", "LIMITS MAILMAX=2 RCPTMAX=5"))
    with FaultyRelay(options) as relay, speaking(relay) as speaker:
        speaker.send(*(mail(f"user{n}@example.com") for n in range(3)))
        assert [sent.connection for sent in relay.accepted] == [1, 1, 2]
        assert speaker.session is not None
        assert speaker.session.max_recipients == 5


def test_what_comes_unasked_makes_a_session_of_no_use() -> None:
    # To two recipients this relay answers twice, and nobody has asked for that over SMTP.
    with FaultyRelay(ServerOptions(is_lmtp=True)) as relay:
        relay.on(Phase.EHLO, "250-relay.example\nPIPELINING")
        session = connect(Relay.parse(f"smtp://127.0.0.1:{relay.port}?tls=off"))
        envelope, content = mail("ada@example.com", "bob@example.com")
        session.send_envelope(envelope)
        assert session.read_envelope_replies().all_accepted
        session.send_content([content])
        assert len(session.end_data()) == 2
        assert not session.is_usable
        session.close()


def test_a_session_in_the_middle_of_a_mail_may_not_be_started() -> None:
    with FaultyRelay() as relay, connected(relay) as session:
        assert session.accepts_more
        session.send_envelope(mail("ada@example.com")[0])
        assert not session.is_usable
        session.read_envelope_replies()
        assert not session.is_usable
        assert session.accepts_more
    assert relay.accepted == []


def test_leaving_in_the_middle_of_a_body_sends_nothing() -> None:
    with FaultyRelay() as relay:
        with connected(relay) as session:
            session.send_envelope(mail("ada@example.com")[0])
            session.read_envelope_replies()
            session.send_content([b"half a mail\r\n"])
        relay.stop()
        assert relay.accepted == []


def test_a_relay_that_does_not_answer_quit_is_not_waited_for() -> None:
    with FaultyRelay() as relay, connected(relay) as session:
        relay.hang_up()
        session.quit()
        session.quit()
        assert not session.is_usable


# What a relay cannot take


def test_a_message_larger_than_the_relay_takes_is_not_sent() -> None:
    with (
        FaultyRelay(ServerOptions(extensions=("SIZE 1000",))) as relay,
        connected(relay) as session,
    ):
        envelope = mail("ada@example.com")[0]
        assert session.local_refusal(replace(envelope, size_bytes=1000)) is None
        outcome = session.local_refusal(replace(envelope, size_bytes=1001))
        assert outcome is not None
        assert (outcome.state, outcome.fault) == (REJECTED, Fault.MESSAGE)
        assert outcome.reply is not None
        assert outcome.reply.enhanced == "5.3.4"
        assert "1000" in outcome.reply.text


def test_an_address_that_needs_smtputf8_is_refused_where_the_relay_lacks_it() -> None:
    envelope = replace(mail("ada@example.com")[0], needs_smtputf8=True)
    with FaultyRelay() as relay, connected(relay) as session:
        assert session.local_refusal(envelope) is None
    with (
        FaultyRelay(ServerOptions().without("SMTPUTF8")) as relay,
        connected(relay) as session,
    ):
        outcome = session.local_refusal(envelope)
        assert outcome is not None
        assert (outcome.state, outcome.fault) == (REJECTED, Fault.RECIPIENT)


def test_parameters_are_those_that_the_relay_announced() -> None:
    notice = DsnOptions(notify=("SUCCESS", "FAILURE"), ret="HDRS", envid="order=7 a+b")
    envelope = Envelope(
        sender="shop@example.com",
        recipients=("jürgen@example.com",),
        size_bytes=2,
        needs_smtputf8=True,
        dsn=notice,
    )
    with FaultyRelay() as relay, speaking(relay) as speaker:
        speaker.send((envelope, b"\r\n"))
        [sent] = relay.accepted
        assert sent.mail_parameters == (
            "SIZE=2 SMTPUTF8 BODY=8BITMIME RET=HDRS ENVID=order+3D7+20a+2Bb"
        )
        assert sent.rcpt_parameters == ("NOTIFY=SUCCESS,FAILURE",)
        assert sent.recipients == ("jürgen@example.com",)
    plain = replace(envelope, recipients=("ada@example.com",), needs_smtputf8=False)
    with FaultyRelay(ServerOptions(extensions=())) as relay, speaking(relay) as speaker:
        speaker.send((plain, b"\r\n"))
        [sent] = relay.accepted
        assert (sent.mail_parameters, sent.rcpt_parameters) == ("", ("",))


@pytest.mark.parametrize("address", ["a@b\r\nRCPT TO:<c@d>", "a@b\n", "a\0@b", "a@b\r"])
def test_an_address_cannot_break_out_of_its_command(address: str) -> None:
    with FaultyRelay() as relay, connected(relay) as session:
        for sender, recipient in ((address, "ada@example.com"), ("", address)):
            with pytest.raises(InvalidAddress):
                session.send_envelope(
                    Envelope(sender=sender, recipients=(recipient,), size_bytes=2)
                )
        assert relay.accepted == []


# LMTP


@pytest.mark.parametrize("socket_path", [False, True], ids=["tcp", "unix"])
def test_lmtp_answers_for_each_recipient(tmp_path: Path, socket_path: bool) -> None:
    path = tmp_path / "lmtp" if socket_path else None
    with FaultyRelay(ServerOptions(is_lmtp=True), path=path) as relay:
        relay.on(Phase.RCPT, "550 5.1.1 unknown", address="b@example.com")
        relay.on(Phase.DOT, "452 4.2.2 mailbox full", address="c@example.com")
        speaker = SmtpClient(Relay.parse(relay.url))
        first, second = speaker.send(
            mail(*(f"{name}@example.com" for name in "abcd")), mail("e@example.com")
        )
        speaker.close()
        assert states(first) == [ACCEPTED, REJECTED, DEFERRED, ACCEPTED]
        assert first[2].fault is Fault.RECIPIENT
        assert states(second) == [ACCEPTED]
        assert [sent.recipients for sent in relay.accepted] == [
            ("a@example.com",),
            ("d@example.com",),
            ("e@example.com",),
        ]


def test_what_lmtp_answered_before_it_broke_off_is_known() -> None:
    with FaultyRelay(ServerOptions(is_lmtp=True)) as relay:
        relay.on(Phase.DOT, Misbehavior.CLOSE, address="c@example.com")
        session = connect(Relay.parse(relay.url))
        envelope, content = mail(*(f"{name}@example.com" for name in "abcd"))
        session.send_envelope(envelope)
        session.read_envelope_replies()
        session.send_content([content])
        with pytest.raises(RelayError) as broken:
            session.end_data()
        assert broken.value.in_doubt
        assert [reply.code for reply in broken.value.replies] == [250, 250]
        session.close()


# Transcripts


def test_a_transcript_tells_the_handshake_and_the_mail_at_hand_without_its_content() -> None:
    with FaultyRelay() as relay, connected(relay) as session:
        relay.on(Phase.DOT, "550 5.7.1 spam", times=1)
        for recipient in ("before@example.com", "ada@example.com"):
            envelope, content = mail(recipient, subject="a secret plan")
            session.send_envelope(envelope)
            session.read_envelope_replies()
            session.send_content([content])
            session.end_data()
        told = session.transcript.splitlines()
        assert told[0] == "< 220 relay.example ready"
        assert "> RCPT TO:<ada@example.com>" in told
        assert f"[{len(content)} bytes of content]" in told
        assert told[-1] == "< 250 2.0.0 accepted"
        assert "before@" not in session.transcript
        assert "secret plan" not in session.transcript


def test_a_transcript_of_many_recipients_stays_short() -> None:
    with FaultyRelay() as relay, connected(relay) as session:
        session.send_envelope(mail(*(f"user{n}@example.com" for n in range(1000)))[0])
        session.read_envelope_replies()
        assert len(session.transcript) <= 8000
        assert "more left out" in session.transcript


# What has passed the gate


@contextmanager
def deaf_relay(path: Path) -> Iterator[str]:
    """Stand in for a relay that reads nothing after its 354; yield its URL."""
    heard = threading.Event()

    def serve(listener: socket.socket) -> None:
        talking, _ = listener.accept()
        with talking, talking.makefile("rb") as lines:
            talking.sendall(b"220 deaf\r\n")
            lines.readline()
            talking.sendall(b"250-deaf\r\n250 PIPELINING\r\n")
            while lines.readline() != b"DATA\r\n":
                pass
            talking.sendall(b"250 ok\r\n250 ok\r\n354 go on\r\n")
            heard.wait(10)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = threading.Thread(target=serve, args=(listener,))
        server.start()
        try:
            yield f"lmtp://{path}?body_timeout=200ms&dot_timeout=200ms"
        finally:
            heard.set()
            server.join()


@pytest.mark.parametrize("size", range(4_096, 400_000, 16_384))
def test_a_dot_is_written_at_once_or_not_at_all(size: int, tmp_path: Path) -> None:
    """It must not wait in our hands for a relay that has stopped reading: leases run out."""
    with deaf_relay(tmp_path / "lmtp") as url, closing(connect(Relay.parse(url))) as session:
        session.send_envelope(mail("ada@example.com")[0])
        assert session.read_envelope_replies().is_ready_for_content
        is_written = None
        may_go_out = False
        try:
            session.send_content([b"x" * (size - 2) + b"\r\n"])
            may_go_out = True
            session.end_data()
        except RelayTimeout as error:
            is_written = error.in_doubt
    assert is_written == may_go_out
