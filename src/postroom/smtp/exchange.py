"""The opening of one transaction on the wire: MAIL, RCPT and DATA out, their replies in."""

from __future__ import annotations

from collections.abc import Iterator

from postroom.smtp.capabilities import Capabilities
from postroom.smtp.commands import opening_pieces
from postroom.smtp.connection import Connection
from postroom.smtp.opening import Opening
from postroom.values.envelope import Envelope
from postroom.values.errors import Disconnected, RelayError
from postroom.values.reply import Reply, is_out_of_step
from postroom.values.states import Phase

_CLOSING = 421
RESET = b"RSET\r\n"
_TERMINATOR = b".\r\n"
# Python 3.11 runs a function for each look-up of a member, and these are looked up for each reply.
_MAIL, _RCPT, _DATA, _BODY, _DOT = Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.BODY, Phase.DOT


class Exchange:
    """An opening from its first write to its last reply.

    ``resets`` has it begin with RSET, where a transaction before was left behind. ``is_reused``
    says that the connection has carried a transaction before. Without PIPELINING every command,
    RSET too, waits for the reply to the one before it (RFC 2920 section 3.1).
    """

    __slots__ = (
        "_accepted",
        "_data",
        "_is_begun",
        "_is_cut",
        "_is_early",
        "_is_reused",
        "_mail",
        "_pieces",
        "_rcpts",
        "_recipients",
        "_resets",
        "_written",
        "commands",
    )

    def __init__(
        self, envelope: Envelope, capabilities: Capabilities, *, resets: bool, is_reused: bool
    ) -> None:
        self._pieces = opening_pieces(envelope, capabilities)
        self._recipients = len(envelope.recipients)
        self._resets = resets
        #: What is written before a reply is read, and how many pieces of the opening are in it.
        self.commands, self._written = self._pieces[0].commands, 1
        if resets and capabilities.has_pipelining:
            self.commands = RESET + self.commands
        elif resets:
            self.commands, self._written = RESET, 0
        self._is_reused = is_reused
        self._is_begun = False
        #: It left with the final dot of the mail before, whose reply had not been read.
        self._is_early = False
        self._is_cut = False
        self._accepted = 0
        self._mail: Reply | None = None
        self._rcpts: list[Reply] = []
        self._data: Reply | None = None

    def first_write(self, *, is_early: bool = False) -> bytes:
        """Return ``commands``; the caller writes them.

        They are early where they leave before the reply to the mail before has been read.
        """
        self._is_begun = True
        self._is_early = is_early
        return self.commands

    def read(self, connection: Connection) -> Opening:
        """Read every reply, writing on where there is more; clean up where it does not open.

        Raises:
            RelayError: the conversation broke.
        """
        if not self._is_begun:
            write(connection, self.first_write(), _MAIL)
        if self._resets:
            self._read_reset(connection)
        try:
            self._read_replies(connection)
        except RelayError:
            # Some hang up after refusing MAIL; that answers for every recipient.
            if self._mail is None or self._mail.is_positive:
                raise
            self._is_cut = True
        opening = self._result()
        if not opening.is_open and self._has_begun:
            self._end_empty(connection, opening)
        return opening

    @property
    def leaves_transaction(self) -> bool:
        """Return whether MAIL was accepted and DATA not: RSET has to come before the next one."""
        has_mail = self._mail is not None and self._mail.is_positive
        return has_mail and (self._data is None or self._data.code >= 400)

    @property
    def is_over(self) -> bool:
        """Return whether the relay has closed the conversation, or lost its place in it."""
        replies = [reply for reply in (self._mail, *self._rcpts, self._data) if reply is not None]
        if self._is_cut or any(reply.code == _CLOSING for reply in replies):
            return True
        return self._is_refused_as_such

    def _answers(self) -> Iterator[tuple[Phase, Reply]]:
        """Yield each reply that says something; after a refusal 503 only says "too late"."""
        if self._mail is not None:
            yield _MAIL, self._mail
        if self._mail is not None and self._mail.is_positive:
            for reply in self._rcpts:
                yield _RCPT, reply
            if self._data is not None and self._accepted:
                yield _DATA, self._data

    def _read_reset(self, connection: Connection) -> None:
        reply = connection.expect(_MAIL)
        if not reply.is_positive:
            raise Disconnected(
                f"expected {connection.relay.name} to accept RSET, got: {reply}",
                phase=_MAIL,
                reply=reply,
            )

    def _read_replies(self, connection: Connection) -> None:
        for position, piece in enumerate(self._pieces):
            if position >= self._written:
                if not self._may_go_on(piece.phases[0]):
                    return
                connection.transcript.add(piece.commands)
                write(connection, piece.commands, piece.phases[0])
            for phase in piece.phases:
                reply = connection.expect(phase)
                self._take(phase, reply)
                if reply.code == _CLOSING:
                    return

    def _may_go_on(self, phase: Phase) -> bool:
        if self._mail is None or not self._mail.is_positive:
            return self._mail is None
        return phase is not _DATA or self._accepted > 0

    def _take(self, phase: Phase, reply: Reply) -> None:
        if phase is _RCPT:
            self._rcpts.append(reply)
            self._accepted += reply.is_positive
        elif phase is _MAIL:
            self._mail = reply
        else:
            self._data = reply

    @property
    def _has_begun(self) -> bool:
        """Return whether the relay waits for a body, or at least for a dot."""
        return self._data is not None and self._data.code < 400

    @property
    def _is_refused_as_such(self) -> bool:
        return any(is_out_of_step(phase, reply) for phase, reply in self._answers())

    def _result(self) -> Opening:
        mail_stands = self._mail is not None and self._mail.is_positive
        missing = self._recipients - len(self._rcpts)
        is_open = mail_stands and self._accepted > 0 and self._has_begun
        return Opening(
            mail=self._mail,
            recipients=(*self._rcpts, *(None,) * missing) if missing else tuple(self._rcpts),
            data=self._data,
            accepted=self._accepted,
            is_open=is_open,
            is_reused=self._is_reused,
            is_misplaced=self._is_early and not is_open and self._is_refused_as_such,
        )

    def _end_empty(self, connection: Connection, opening: Opening) -> None:
        """End a DATA that the relay began though nobody stands: with a bare dot.

        RFC 2920 section 3.1. Where somebody does stand, though MAIL was refused, a dot would
        send an empty mail: then only hanging up is safe.
        """
        if opening.accepted:
            raise Disconnected(
                f"expected {connection.relay.name} to refuse DATA after it refused MAIL, got: "
                f"{self._data}",
                phase=_DATA,
                reply=opening.mail,
            )
        connection.transcript.add(_TERMINATOR)
        write(connection, _TERMINATOR, _DOT)
        reply = connection.expect(_DOT)
        if reply.code == _CLOSING:
            self._data = reply


def write(connection: Connection, content: bytes, phase: Phase) -> None:
    """Write commands or content; where it fails say what the relay said before it hung up.

    Raises:
        RelayError: it was not written whole.
    """
    timeouts = connection.relay.timeouts
    try:
        connection.write(content, timeouts.body_s if phase is _BODY else timeouts.command_s, phase)
    except RelayError as error:
        error.reply = connection.last_words()
        raise
