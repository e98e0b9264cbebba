"""The opening of one transaction on the wire: MAIL, RCPT and DATA out, their replies in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from postroom.errors import Disconnected, RelayError
from postroom.message.envelope import Envelope
from postroom.smtp.capabilities import Capabilities
from postroom.smtp.commands import transaction_commands
from postroom.smtp.connection import Connection
from postroom.smtp.reply import Outcome, Reply, classify, is_out_of_step
from postroom.states import Fault, Phase, RecipientState

_CLOSING = 421
_TOO_MANY_CODES = frozenset({452, 552})  # RFC 5321 section 4.5.3.1.10 on 552
_TOO_MANY = re.compile(
    r"too many (recipients|rcpts?)\b(?! from)|(recipient|rcpt)s? (count )?limit", re.I
)
_TOO_MANY_ENHANCED = frozenset({"4.5.3", "5.5.3"})


# Not frozen, though nothing changes it: one is made for every mail.
@dataclass(slots=True, kw_only=True)
class EnvelopeReplies:
    """The replies to MAIL, each RCPT and DATA; None for what was not asked or not answered.

    ``recipients`` runs parallel to the envelope's; ``accepted`` of them stand. ``is_open`` says
    that the body may follow: MAIL stands, somebody stands, and DATA was answered 354.
    ``is_reused`` says that the connection has carried a transaction before this one,
    ``is_misplaced`` that the relay refused it for having come with the final dot before it.
    """

    mail: Reply | None
    recipients: tuple[Reply | None, ...]
    data: Reply | None
    accepted: int
    is_ready_for_content: bool
    is_reused: bool = False
    is_misplaced: bool = False

    @property
    def all_accepted(self) -> bool:
        """Return whether the body may follow for every recipient."""
        return self.accepted == len(self.recipients) and self.is_ready_for_content

    @property
    def is_stale(self) -> bool:
        """Return whether a connection that served before was closed before this began.

        Relays limit the mails and the time of a connection; it is nobody's fault.
        """
        return self.is_reused and self.mail is not None and self.mail.code == _CLOSING

    @property
    def closing(self) -> tuple[Phase, Reply] | None:
        """Return the 421 that ended the conversation, and where it came."""
        rcpts = ((Phase.RCPT, reply) for reply in self.recipients)
        for phase, reply in ((Phase.MAIL, self.mail), *rcpts, (Phase.DATA, self.data)):
            if reply is not None and reply.code == _CLOSING:
                return phase, reply
        return None

    @property
    def excess_recipients(self) -> tuple[int, ...]:
        """Return which recipients were too many for one transaction, by position.

        Only where another one stood before: alone, "too many" means a quota and not this
        transaction, and trying again at once would never end. Where DATA is refused for their
        number, those that stood are too many as well.
        """
        refused = self._refused_at_rcpt()
        if not self._is_too_many_at_data:
            return refused
        stood = (at for at, reply in enumerate(self.recipients) if reply and reply.is_positive)
        return tuple(sorted((*refused, *stood)))

    @property
    def most_recipients(self) -> int | None:
        """Return how many recipients to try next time; None where nothing was said of that.

        As many as came before the first that was too many; half of them where only DATA was
        refused, as Exim's ``recipients_max_reject`` does it (it counts each RCPT that it sees).
        """
        if refused := self._refused_at_rcpt():
            return refused[0]
        return self.accepted // 2 if self._is_too_many_at_data else None

    def _refused_at_rcpt(self) -> tuple[int, ...]:
        stands = False
        positions = []
        for position, reply in enumerate(self.recipients):
            stands = stands or (reply is not None and reply.is_positive)
            if stands and reply is not None and _is_too_many(reply):
                positions.append(position)
        return tuple(positions)

    @property
    def _is_too_many_at_data(self) -> bool:
        if self.data is None or self.accepted < 1 or not has_too_many(self.data):
            return False
        return self.accepted > 1 or bool(self._refused_at_rcpt())

    def outcomes(self) -> tuple[Outcome | None, ...]:
        """Return what is decided for each recipient; None for those whose body may follow.

        Recipients that were too many for this transaction are deferred, to be tried again at once
        (``Outcome.is_at_once``) in another one; so are those of a stale connection.
        """
        if self.all_accepted:
            return (None,) * len(self.recipients)
        return tuple(self._each())

    def _each(self) -> Iterator[Outcome | None]:
        too_many = frozenset(self.excess_recipients)
        for position, reply in enumerate(self.recipients):
            if position in too_many and not self.is_stale:
                yield at_once(Phase.RCPT, reply, Fault.OURSELVES)
            else:
                yield self._outcome(reply)

    def _outcome(self, reply: Reply | None) -> Outcome | None:
        if self.is_stale or self.is_misplaced:
            return at_once(Phase.MAIL, self.mail, None)
        if self.mail is not None and not self.mail.is_positive:
            return classify(Phase.MAIL, self.mail)
        if reply is not None and not reply.is_positive:
            return classify(Phase.RCPT, reply)
        if self.is_ready_for_content:
            return None
        if self.closing is not None:
            return classify(*self.closing)
        assert self.data is not None, "accepted, not open, not closing: DATA was refused"
        return classify(Phase.DATA, self.data)


def has_too_many(reply: Reply) -> bool:
    """Return whether ``reply``, to DATA or the final dot, refuses only how many the mail is for."""
    if reply.code < 400 or reply.code == _CLOSING:
        return False
    return reply.enhanced in _TOO_MANY_ENHANCED or _TOO_MANY.search(reply.text) is not None


def at_once(phase: Phase, reply: Reply | None, fault: Fault | None) -> Outcome:
    """Return a deferral that costs nothing: to be tried again at once, in another transaction."""
    return Outcome(
        state=RecipientState.DEFERRED, fault=fault, retry_after_s=0, reply=reply, phase=phase
    )


def _is_too_many(reply: Reply) -> bool:
    # Other codes say it of a sender's quota as well: to RCPT they have to be plain.
    is_plain = reply.code in _TOO_MANY_CODES or reply.enhanced in _TOO_MANY_ENHANCED
    return is_plain and has_too_many(reply)


_CLOSING = 421
RESET = b"RSET\r\n"
_TERMINATOR = b".\r\n"
# Python 3.11 runs a function for each look-up of a member, and these are looked up for each reply.
_MAIL, _RCPT, _DATA, _BODY, _DOT = Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.BODY, Phase.DOT


class EnvelopeExchange:
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
        self._pieces = transaction_commands(envelope, capabilities)
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

    def read(self, connection: Connection) -> EnvelopeReplies:
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
        if not opening.is_ready_for_content and self._has_begun:
            self._end_empty(connection, opening)
        return opening

    @property
    def needs_reset(self) -> bool:
        """Return whether MAIL was accepted and DATA not: RSET has to come before the next one."""
        has_mail = self._mail is not None and self._mail.is_positive
        return has_mail and (self._data is None or self._data.code >= 400)

    @property
    def is_closing(self) -> bool:
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

    def _result(self) -> EnvelopeReplies:
        mail_stands = self._mail is not None and self._mail.is_positive
        missing = self._recipients - len(self._rcpts)
        is_open = mail_stands and self._accepted > 0 and self._has_begun
        return EnvelopeReplies(
            mail=self._mail,
            recipients=(*self._rcpts, *(None,) * missing) if missing else tuple(self._rcpts),
            data=self._data,
            accepted=self._accepted,
            is_ready_for_content=is_open,
            is_reused=self._is_reused,
            is_misplaced=self._is_early and not is_open and self._is_refused_as_such,
        )

    def _end_empty(self, connection: Connection, opening: EnvelopeReplies) -> None:
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
        error.reply = connection.pending_refusal()
        raise
