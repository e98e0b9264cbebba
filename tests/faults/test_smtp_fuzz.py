"""Whatever a relay says, a mail is accepted where it said so and nowhere else."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroom.errors import RelayError
from postroom.message.envelope import Envelope
from postroom.relays.relay import Relay
from postroom.smtp.reply import Outcome, classify, classify_error
from postroom.smtp.session import connect
from postroom.states import Phase, RecipientState

RECIPIENTS = ("ada@example.com", "bob@example.com")
ENVELOPE = Envelope(sender="shop@example.com", recipients=RECIPIENTS, size_bytes=7)

CODES = st.sampled_from([b"250", b"354", b"421", b"450", b"452", b"503", b"550", b"554", b"221"])
TEXTS = st.sampled_from([b" ok", b" 2.1.5 ok", b" 4.5.3 too many recipients", b"", b" \xff\x00"])
REPLIES = st.builds(lambda code, text: code + text + b"\r\n", CODES, TEXTS)
MULTILINE = st.builds(lambda code, more: code + b"-first\r\n" + more + b" last\r\n", CODES, CODES)
GARBAGE = st.binary(max_size=30)
GOOD = [b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 ok\r\n"]

#: Mostly a conversation that goes well, with something else here and there.
SCRIPTS = st.lists(
    st.one_of(st.sampled_from([b"250 ok\r\n", b"354 go\r\n"]), REPLIES, MULTILINE, GARBAGE),
    max_size=8,
) | st.builds(
    lambda position, other: [*GOOD[:position], other, *GOOD[position + 1 :]],
    st.integers(0, 4),
    st.one_of(REPLIES, MULTILINE, GARBAGE),
)


class ScriptedRelay:
    """Greets, answers EHLO, then says what it is told to.

    The first four pieces answer a command each, or all of them together where PIPELINING is
    announced; the others come after the final dot.
    """

    def __init__(self) -> None:
        self.script: list[bytes] = []
        self.extensions = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                try:
                    self._speak(client)
                except OSError:
                    continue

    def _speak(self, client: socket.socket) -> None:
        client.sendall(b"220 relay.example\r\n")
        client.recv(1000)
        client.sendall(b"250-relay.example\r\n" + self.extensions + b"250 DSN\r\n")
        opening, rest = self.script[:4], self.script[4:]
        for piece in [b"".join(opening)] if self.extensions else opening:
            if not client.recv(100_000):
                return
            client.sendall(piece)
        heard = b""
        while not heard.endswith(b"\n.\r\n"):
            if not (more := client.recv(100_000)):
                return
            heard += more
        client.sendall(b"".join(rest))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture(scope="module")
def relay() -> Iterator[ScriptedRelay]:
    relay = ScriptedRelay()
    yield relay
    relay.close()


def codes_of(said: bytes) -> list[int]:
    """Read replies another way than the parser does: one expression, up to what is none."""
    reply = re.compile(
        rb"((?P<code>[2-5][0-9]{2})-[^\n]*\n(?:(?P=code)-[^\n]*\n)*(?P=code)(?: [^\n]*)?\n)"
        rb"|(?:([2-5][0-9]{2})(?: [^\r\n]*)?\r?\n)"
    )
    codes, position = [], 0
    while found := reply.match(said, position):
        codes.append(int(found["code"] or found[3]))
        position = found.end()
    return codes


def accepted_by(codes: list[int]) -> list[bool]:
    """Return whom a relay that gave these answers has accepted: MAIL, two RCPT, DATA, dot."""
    if len(codes) < 5 or codes[0] // 100 != 2 or codes[3] != 354 or codes[4] // 100 != 2:
        return [False, False]
    # Whoever says that it hangs up has not gone on to DATA.
    if 421 in codes[:4]:
        return [False, False]
    return [code // 100 == 2 for code in codes[1:3]]


def outcomes_at(relay: ScriptedRelay) -> list[Outcome]:
    patience = "command_timeout=100ms&dot_timeout=100ms"
    decided: list[Outcome | None] = [None, None]
    session = None
    try:
        session = connect(Relay.parse(f"smtp://127.0.0.1:{relay.port}?tls=off&{patience}"))
        session.send_envelope(ENVELOPE)
        replies = session.read_envelope_replies()
        decided = list(replies.outcomes())
        if replies.is_ready_for_content:
            session.send_content([b"hello\r\n"])
            final = iter(session.end_data())
            decided = [outcome or classify(Phase.DOT, next(final)) for outcome in decided]
    except RelayError as error:
        broken = classify_error(error)
        decided = [outcome or broken for outcome in decided]
    finally:
        if session is not None:
            session.close()
    assert all(outcome is not None for outcome in decided)
    return [outcome for outcome in decided if outcome is not None]


@pytest.mark.parametrize("pipelining", [True, False])
@settings(max_examples=150)
@given(script=SCRIPTS)
def test_only_a_well_formed_yes_to_recipient_and_dot_accepts(
    relay: ScriptedRelay, pipelining: bool, script: list[bytes]
) -> None:
    relay.script = script
    relay.extensions = b"250-PIPELINING\r\n" if pipelining else b""
    outcomes = outcomes_at(relay)
    assert all(outcome.state in RecipientState for outcome in outcomes)
    allowed = accepted_by(codes_of(b"".join(script)))
    for outcome, is_allowed in zip(outcomes, allowed, strict=True):
        assert is_allowed or outcome.state is not RecipientState.ACCEPTED


def test_the_oracle_itself_accepts_what_went_well(relay: ScriptedRelay) -> None:
    relay.script, relay.extensions = GOOD, b"250-PIPELINING\r\n"
    assert accepted_by(codes_of(b"".join(GOOD))) == [True, True]
    assert [outcome.state for outcome in outcomes_at(relay)] == [RecipientState.ACCEPTED] * 2


def test_an_answer_to_the_dot_that_comes_before_the_dot_accepts_nothing(
    relay: ScriptedRelay,
) -> None:
    relay.script = [*GOOD[:3], GOOD[3] + GOOD[4]]
    relay.extensions = b"250-PIPELINING\r\n"
    assert [outcome.state for outcome in outcomes_at(relay)] == [RecipientState.DEFERRED] * 2
