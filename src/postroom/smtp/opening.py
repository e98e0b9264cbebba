"""How a relay answered the opening of a transaction, and what that means for each recipient."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from postroom.values.reply import Outcome, Reply, classify
from postroom.values.states import Fault, Phase, RecipientState

_CLOSING = 421
_TOO_MANY_CODES = frozenset({452, 552})  # RFC 5321 section 4.5.3.1.10 on 552
_TOO_MANY = re.compile(
    r"too many (recipients|rcpts?)\b(?! from)|(recipient|rcpt)s? (count )?limit", re.I
)
_TOO_MANY_ENHANCED = frozenset({"4.5.3", "5.5.3"})


# Not frozen, though nothing changes it: one is made for every mail.
@dataclass(slots=True, kw_only=True)
class Opening:
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
    is_open: bool
    is_reused: bool = False
    is_misplaced: bool = False

    @property
    def is_complete(self) -> bool:
        """Return whether the body may follow for every recipient."""
        return self.accepted == len(self.recipients) and self.is_open

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
    def overflow(self) -> tuple[int, ...]:
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
        if self.is_complete:
            return (None,) * len(self.recipients)
        return tuple(self._each())

    def _each(self) -> Iterator[Outcome | None]:
        too_many = frozenset(self.overflow)
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
        if self.is_open:
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
