"""The envelope of one transaction: MAIL, RCPT, DATA and their replies (RFC 5321 section 3.3).

Every reply is read, so the next transaction never gets the answer to this one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from postroom.errors import Disconnected, RelayError
from postroom.message.envelope import Envelope
from postroom.smtp.capabilities import Capabilities
from postroom.smtp.commands import FINAL_DOT, RSET, transaction_commands
from postroom.smtp.connection import Connection
from postroom.smtp.reply import (
    EXCEEDED_STORAGE,
    INSUFFICIENT_STORAGE,
    SERVICE_CLOSING,
    Outcome,
    Reply,
    classify,
    is_out_of_step,
)
from postroom.states import Fault, Phase, RecipientState

# RFC 5321 section 4.5.3.1.10: 452 is right, and older relays say 552.
_TOO_MANY_CODES = frozenset({INSUFFICIENT_STORAGE, EXCEEDED_STORAGE})
_TOO_MANY = re.compile(
    r"too many (recipients|rcpts?)\b(?! from)|(recipient|rcpt)s? (count )?limit", re.I
)
_TOO_MANY_ENHANCED = frozenset({"4.5.3", "5.5.3"})  # RFC 3463 section 3.6
# Python 3.11 runs a function for each look-up of a member, and these are looked up for each reply.
_MAIL, _RCPT, _DATA, _BODY, _DOT = Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.BODY, Phase.DOT


# Not frozen, though nothing changes it: one is made for every mail.
@dataclass(slots=True, kw_only=True)
class EnvelopeReplies:
    """The replies to MAIL, each RCPT and DATA; None for a command without a reply.

    Attributes:
        mail: The reply to MAIL.
        recipients: The replies to RCPT, in the order of the envelope's recipients.
        data: The reply to DATA.
        accepted: How many recipients were accepted.
        is_ready_for_content: MAIL and at least one recipient were accepted, and DATA was answered
            with 354: the content comes next.
        is_reused: The connection carried another transaction before this one.
        is_refused_early: The relay refused the envelope because it was sent together with the
            final dot of the mail before.
    """

    mail: Reply | None
    recipients: tuple[Reply | None, ...]
    data: Reply | None
    accepted: int
    is_ready_for_content: bool
    is_reused: bool = False
    is_refused_early: bool = False

    @property
    def all_accepted(self) -> bool:
        """Return whether the content may be sent to every recipient."""
        return self.accepted == len(self.recipients) and self.is_ready_for_content

    @property
    def is_stale(self) -> bool:
        """Return whether a reused connection was closed before this transaction could start.

        Relays limit the number of mails and the age of a connection; this is not a fault.
        """
        return self.is_reused and self.mail is not None and self.mail.code == SERVICE_CLOSING

    @property
    def closing_reply(self) -> tuple[Phase, Reply] | None:
        """Return the 421 that ended the session and its phase; None if there was none."""
        rcpts = ((_RCPT, reply) for reply in self.recipients)
        for phase, reply in ((_MAIL, self.mail), *rcpts, (_DATA, self.data)):
            if reply is not None and reply.code == SERVICE_CLOSING:
                return phase, reply
        return None

    @property
    def excess_recipients(self) -> tuple[int, ...]:
        """Return the positions of the recipients that were too many for one transaction.

        "Too many" counts only after another recipient was accepted: for a single recipient it
        means a quota, and retrying immediately would never end. If the relay refuses DATA because
        of the number, the accepted recipients are too many as well.
        """
        refused = self._refused_at_rcpt()
        if not self._is_too_many_at_data:
            return refused
        accepted = (at for at, reply in enumerate(self.recipients) if reply and reply.is_positive)
        return tuple(sorted((*refused, *accepted)))

    @property
    def recipient_limit(self) -> int | None:
        """Return how many recipients to send next time; None if the relay gave no limit.

        The number accepted before the first that was too many. If only DATA was refused, half of
        them: Exim's ``recipients_max_reject`` counts every RCPT and refuses DATA.
        """
        if refused := self._refused_at_rcpt():
            return refused[0]
        return self.accepted // 2 if self._is_too_many_at_data else None

    def outcomes(self) -> tuple[Outcome | None, ...]:
        """Return the outcome of each recipient; None for those that the content may be sent to.

        Recipients that were too many are deferred with ``Outcome.retry_immediately``, to be sent
        in another transaction. So are all recipients if the connection was stale.
        """
        if self.all_accepted:
            return (None,) * len(self.recipients)
        return tuple(self._outcomes())

    def _outcomes(self) -> Iterator[Outcome | None]:
        too_many = frozenset(self.excess_recipients)
        for position, reply in enumerate(self.recipients):
            if position in too_many and not self.is_stale:
                yield retry_immediately(_RCPT, reply, Fault.OURSELVES)
            else:
                yield self._outcome(reply)

    def _outcome(self, reply: Reply | None) -> Outcome | None:
        if self.is_stale or self.is_refused_early:
            return retry_immediately(_MAIL, self.mail, None)
        if self.mail is not None and not self.mail.is_positive:
            return classify(_MAIL, self.mail)
        if reply is not None and not reply.is_positive:
            return classify(_RCPT, reply)
        if self.is_ready_for_content:
            return None
        if self.closing_reply is not None:
            return classify(*self.closing_reply)
        assert self.data is not None, "accepted, not ready, not closing: DATA was refused"
        return classify(_DATA, self.data)

    def _refused_at_rcpt(self) -> tuple[int, ...]:
        has_accepted = False
        positions = []
        for position, reply in enumerate(self.recipients):
            has_accepted = has_accepted or (reply is not None and reply.is_positive)
            if has_accepted and reply is not None and _is_too_many_at_rcpt(reply):
                positions.append(position)
        return tuple(positions)

    @property
    def _is_too_many_at_data(self) -> bool:
        if self.data is None or self.accepted < 1 or not is_too_many_recipients(self.data):
            return False
        return self.accepted > 1 or bool(self._refused_at_rcpt())


def is_too_many_recipients(reply: Reply) -> bool:
    """Return whether ``reply`` refuses a mail only because it has too many recipients.

    Args:
        reply: The reply to DATA or the final dot.
    """
    if reply.code < 400 or reply.code == SERVICE_CLOSING:
        return False
    return reply.enhanced in _TOO_MANY_ENHANCED or _TOO_MANY.search(reply.text) is not None


def _is_too_many_at_rcpt(reply: Reply) -> bool:
    # Relays use other codes for a sender's quota too, so a reply to RCPT needs one of these.
    is_plain = reply.code in _TOO_MANY_CODES or reply.enhanced in _TOO_MANY_ENHANCED
    return is_plain and is_too_many_recipients(reply)


def retry_immediately(phase: Phase, reply: Reply | None, fault: Fault | None) -> Outcome:
    """Return a deferral that costs no try: the recipient is sent in another transaction at once.

    Args:
        phase: Where the relay refused it.
        reply: What the relay said, if anything.
        fault: Whose fault it is; None: nobody's.
    """
    return Outcome(
        state=RecipientState.DEFERRED, fault=fault, retry_after_s=0, reply=reply, phase=phase
    )


class EnvelopeExchange:
    """One envelope, from the first write to the last reply.

    Without PIPELINING every command waits for the reply to the one before it, RSET too (RFC 2920
    section 3.1).

    Args:
        envelope: The sender and the recipients.
        capabilities: What the relay announced.
        resets: Begin with RSET, because the transaction before was left unfinished.
        is_reused: The connection carried another transaction before.

    Attributes:
        commands: What is written before the first reply is read.
    """

    __slots__ = (
        "_accepted",
        "_data",
        "_groups",
        "_groups_written",
        "_is_disconnected",
        "_is_early",
        "_is_reused",
        "_is_started",
        "_mail",
        "_rcpts",
        "_recipients",
        "_resets",
        "commands",
    )

    def __init__(
        self, envelope: Envelope, capabilities: Capabilities, *, resets: bool, is_reused: bool
    ) -> None:
        self._groups = transaction_commands(envelope, capabilities)
        self._recipients = len(envelope.recipients)
        self._resets = resets
        #: How many command groups of the envelope ``commands`` contains.
        self.commands, self._groups_written = self._groups[0].commands, 1
        if resets and capabilities.has_pipelining:
            self.commands = RSET + self.commands
        elif resets:
            self.commands, self._groups_written = RSET, 0
        self._is_reused = is_reused
        self._is_started = False
        #: Sent with the final dot of the mail before, whose reply had not been read.
        self._is_early = False
        self._is_disconnected = False
        self._accepted = 0
        self._mail: Reply | None = None
        self._rcpts: list[Reply] = []
        self._data: Reply | None = None

    def first_write(self, *, is_early: bool = False) -> bytes:
        """Return ``commands``, for the caller to write.

        Args:
            is_early: They are written before the reply to the mail before has been read.
        """
        self._is_started = True
        self._is_early = is_early
        return self.commands

    def read(self, connection: Connection) -> EnvelopeReplies:
        """Read every reply and write the remaining commands; end DATA if nobody was accepted.

        Args:
            connection: The connection that ``first_write`` was written to, or none was yet.

        Raises:
            RelayError: The connection broke, or the relay answered something else.
        """
        if not self._is_started:
            write(connection, self.first_write(), _MAIL)
        if self._resets:
            self._read_reset(connection)
        try:
            self._read_replies(connection)
        except RelayError:
            # Some relays hang up after refusing MAIL; that answers for every recipient.
            if self._mail is None or self._mail.is_positive:
                raise
            self._is_disconnected = True
        replies = self._collect()
        if not replies.is_ready_for_content and self._awaits_content:
            self._end_empty(connection, replies)
        return replies

    @property
    def needs_reset(self) -> bool:
        """Return whether the next transaction has to begin with RSET.

        True if MAIL was accepted and DATA was not.
        """
        has_mail = self._mail is not None and self._mail.is_positive
        return has_mail and (self._data is None or self._data.code >= 400)

    @property
    def is_closing(self) -> bool:
        """Return whether the relay ended the session, or its replies are out of step."""
        replies = [reply for reply in (self._mail, *self._rcpts, self._data) if reply is not None]
        if self._is_disconnected or any(reply.code == SERVICE_CLOSING for reply in replies):
            return True
        return self._is_out_of_step

    def _read_reset(self, connection: Connection) -> None:
        reply = connection.expect(_MAIL)
        if not reply.is_positive:
            raise Disconnected(
                f"the relay {connection.relay.name} refused RSET: {reply}",
                phase=_MAIL,
                reply=reply,
            )

    def _read_replies(self, connection: Connection) -> None:
        for position, group in enumerate(self._groups):
            if position >= self._groups_written:
                if not self._may_continue(group.phases[0]):
                    return
                connection.transcript.add(group.commands)
                write(connection, group.commands, group.phases[0])
            for phase in group.phases:
                reply = connection.expect(phase)
                self._store(phase, reply)
                if reply.code == SERVICE_CLOSING:
                    return

    def _may_continue(self, phase: Phase) -> bool:
        if self._mail is None or not self._mail.is_positive:
            return self._mail is None
        return phase is not _DATA or self._accepted > 0

    def _store(self, phase: Phase, reply: Reply) -> None:
        if phase is _RCPT:
            self._rcpts.append(reply)
            self._accepted += reply.is_positive
        elif phase is _MAIL:
            self._mail = reply
        else:
            self._data = reply

    @property
    def _awaits_content(self) -> bool:
        """Return whether the relay waits for content, or at least for the final dot."""
        return self._data is not None and self._data.code < 400

    @property
    def _is_out_of_step(self) -> bool:
        return any(is_out_of_step(phase, reply) for phase, reply in self._telling_replies())

    def _telling_replies(self) -> Iterator[tuple[Phase, Reply]]:
        """Yield each reply that tells something; after a refusal, 503 only follows from it."""
        if self._mail is not None:
            yield _MAIL, self._mail
        if self._mail is not None and self._mail.is_positive:
            for reply in self._rcpts:
                yield _RCPT, reply
            if self._data is not None and self._accepted:
                yield _DATA, self._data

    def _collect(self) -> EnvelopeReplies:
        has_mail = self._mail is not None and self._mail.is_positive
        missing = self._recipients - len(self._rcpts)
        is_ready = has_mail and self._accepted > 0 and self._awaits_content
        return EnvelopeReplies(
            mail=self._mail,
            recipients=(*self._rcpts, *(None,) * missing) if missing else tuple(self._rcpts),
            data=self._data,
            accepted=self._accepted,
            is_ready_for_content=is_ready,
            is_reused=self._is_reused,
            is_refused_early=self._is_early and not is_ready and self._is_out_of_step,
        )

    def _end_empty(self, connection: Connection, replies: EnvelopeReplies) -> None:
        """End DATA with an empty body, if the relay sent 354 but accepted no recipient.

        RFC 2920 section 3.1. If it accepted a recipient although it refused MAIL, the dot would
        send an empty mail: then only closing the connection is safe.
        """
        if replies.accepted:
            raise Disconnected(
                f"the relay {connection.relay.name} refused MAIL and then answered DATA with "
                f"{self._data}; the connection is closed, so that no empty mail is sent",
                phase=_DATA,
                reply=replies.mail,
            )
        connection.transcript.add(FINAL_DOT)
        write(connection, FINAL_DOT, _DOT)
        reply = connection.expect(_DOT)
        if reply.code == SERVICE_CLOSING:
            self._data = reply


def write(connection: Connection, content: bytes, phase: Phase) -> None:
    """Write commands or content; on failure, attach what the relay said before it hung up.

    Args:
        connection: The connection to write to.
        content: Whole commands, or a part of the message.
        phase: What is written; it decides the timeout.

    Raises:
        RelayError: Not everything was written.
    """
    timeouts = connection.relay.timeouts
    try:
        connection.write(content, timeouts.body_s if phase is _BODY else timeouts.command_s, phase)
    except RelayError as error:
        error.reply = connection.pending_refusal()
        raise
