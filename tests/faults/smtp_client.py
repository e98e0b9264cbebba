"""A sender in a few lines, for tests of sessions: what ``delivery`` does, without a database."""

from __future__ import annotations

from collections.abc import Sequence

from postroom.errors import RelayError
from postroom.message.envelope import Envelope
from postroom.relays.relay import Relay
from postroom.smtp.reply import Outcome, classify, classify_error
from postroom.smtp.session import Session, connect
from postroom.states import Phase

Mail = tuple[Envelope, bytes]


def mail(*recipients: str, subject: str = "hello", size_bytes: int = 200) -> Mail:
    content = f"Subject: {subject}\r\n\r\n".encode()
    line = b"x" * 76 + b"\r\n"
    content += line * ((size_bytes - len(content)) // len(line) + 1)
    envelope = Envelope(sender="shop@example.com", recipients=recipients, size_bytes=len(content))
    return envelope, content


class SmtpClient:
    """Sends mails one after the other, each opened with the dot before it; never sends twice.

    Only what may be tried again at once is, as a stale connection or too many recipients.
    """

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.session: Session | None = None
        self.connections = 0
        self.transcripts: list[str] = []

    def send(self, *mails: Mail) -> list[list[Outcome]]:
        """Return the outcome of each recipient of each mail."""
        outcomes = []
        is_open = False
        for position, (envelope, content) in enumerate(mails):
            following = mails[position + 1][0] if position + 1 < len(mails) else None
            outcome, is_open = self._send(envelope, content, following, is_open=is_open)
            outcomes.append(outcome)
        return outcomes

    def _send(
        self, envelope: Envelope, content: bytes, following: Envelope | None, *, is_open: bool
    ) -> tuple[list[Outcome], bool]:
        decided: list[Outcome | None] = [None] * len(envelope.recipients)
        is_reused = is_open
        try:
            session = self.session
            if not is_open:
                session = self._connected()
                is_reused = session.transactions > 0
                session.send_envelope(envelope)
            assert session is not None
            replies = session.read_envelope_replies()
            decided = list(replies.outcomes())
            if any(outcome is not None and outcome.retry_immediately for outcome in decided):
                return self._send(envelope, content, following, is_open=False)
            if not replies.is_ready_for_content:
                return _all(decided), False
            session.send_content([content])
            follows = following if session.accepts_more else None
            final = iter(session.end_data(follows))
            self.transcripts.append(session.transcript)
            done = [outcome or classify(Phase.DOT, next(final)) for outcome in decided]
            return done, follows is not None
        except RelayError as error:
            if is_reused and error.phase is Phase.MAIL:
                return self._send(envelope, content, following, is_open=False)
            self.transcripts.append(error.transcript)
            broken = classify_error(error)
            return [outcome or broken for outcome in decided], False

    def _connected(self) -> Session:
        if self.session is None or not self.session.is_usable:
            self.close()
            self.session = connect(self.relay)
            self.connections += 1
        return self.session

    def close(self) -> None:
        if self.session is not None:
            self.session.quit()
            self.session = None


def _all(outcomes: Sequence[Outcome | None]) -> list[Outcome]:
    assert None not in outcomes
    return [outcome for outcome in outcomes if outcome is not None]
