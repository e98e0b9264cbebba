"""The closed sets of the house, and the one table of allowed transitions.

A recipient's state lives in its row; ``sending`` is derived from a lease in the queue. A
message's state is derived from those of its recipients.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum


class RecipientState(StrEnum):
    """Where one recipient of one message stands."""

    #: Waits for its first attempt.
    QUEUED = "queued"
    #: Leased by a worker at this moment.
    SENDING = "sending"
    #: The last attempt failed for a passing reason; another one is due later.
    DEFERRED = "deferred"
    #: The connection broke between the final dot and its reply: the relay may have the mail.
    IN_DOUBT = "in_doubt"
    #: The relay answered 2xx to RCPT and to the final dot. Not the same as "delivered".
    ACCEPTED = "accepted"
    #: Refused for good, by the relay or because every retry was used up.
    REJECTED = "rejected"
    #: Not sent: the address is on the suppression list.
    SUPPRESSED = "suppressed"
    #: Not sent: cancelled by the application or a person.
    CANCELLED = "cancelled"
    #: Not sent: ``expires_at`` passed first.
    EXPIRED = "expired"


class Lane(StrEnum):
    """Which queue a message waits in; a lane never waits behind another's backlog."""

    #: Passwords, alarms: before anything else.
    URGENT = "urgent"
    #: Confirmations and receipts; the default.
    NORMAL = "normal"
    #: Newsletters and campaigns.
    BULK = "bulk"

    @property
    def rank(self) -> int:
        """Return the lane as the small number that the queue table orders by."""
        return _LANE_RANKS[self]


_LANE_RANKS = {Lane.URGENT: 0, Lane.NORMAL: 1, Lane.BULK: 2}


class Fault(StrEnum):
    """Whom a failure belongs to; it decides who suffers the consequences."""

    #: This address only: unknown, full, refused.
    RECIPIENT = "recipient"
    #: This message, whoever receives it: too large, refused as spam.
    MESSAGE = "message"
    #: Our login at the relay.
    CREDENTIALS = "credentials"
    #: The relay or the way to it.
    RELAY = "relay"
    #: Postroom or the machine it runs on.
    OURSELVES = "ourselves"


class Phase(StrEnum):
    """Where in the conversation with a relay something happened."""

    #: Name resolution and the TCP (or TLS) connection.
    CONNECT = "connect"
    #: The relay's 220 line.
    GREETING = "greeting"
    #: EHLO, HELO or LHLO.
    EHLO = "ehlo"
    #: STARTTLS and the TLS handshake after it.
    STARTTLS = "starttls"
    #: AUTH.
    AUTH = "auth"
    #: MAIL FROM.
    MAIL = "mail"
    #: RCPT TO.
    RCPT = "rcpt"
    #: DATA, up to its 354.
    DATA = "data"
    #: The content, before the final dot.
    BODY = "body"
    #: The final dot and its reply.
    DOT = "dot"


class OnDoubt(StrEnum):
    """What happens to a recipient in doubt."""

    #: Send again after a while, with the same Message-ID and bytes.
    RESEND = "resend"
    #: Wait for a person or the application to decide with ``resolve``.
    HOLD = "hold"


class RecipientType(StrEnum):
    """How a recipient is addressed."""

    #: Named in To.
    TO = "to"
    #: Named in Cc.
    CC = "cc"
    #: In the envelope only.
    BCC = "bcc"


_S = RecipientState

#: What may follow each state. ``accepted`` is reached from anywhere but itself, because a
#: relay's 2xx is a fact: it wins over whatever was recorded meanwhile.
TRANSITIONS: Mapping[RecipientState, frozenset[RecipientState]] = {
    _S.QUEUED: frozenset({_S.SENDING, _S.CANCELLED, _S.ACCEPTED}),
    _S.SENDING: frozenset(
        {
            _S.QUEUED,
            _S.ACCEPTED,
            _S.DEFERRED,
            _S.REJECTED,
            _S.IN_DOUBT,
            _S.SUPPRESSED,
            _S.EXPIRED,
            _S.CANCELLED,
        }
    ),
    _S.DEFERRED: frozenset({_S.SENDING, _S.CANCELLED, _S.ACCEPTED}),
    _S.IN_DOUBT: frozenset({_S.SENDING, _S.ACCEPTED, _S.QUEUED, _S.CANCELLED}),
    _S.ACCEPTED: frozenset(),
    _S.REJECTED: frozenset({_S.QUEUED, _S.ACCEPTED}),
    _S.SUPPRESSED: frozenset({_S.QUEUED, _S.ACCEPTED}),
    _S.CANCELLED: frozenset({_S.QUEUED, _S.ACCEPTED}),
    _S.EXPIRED: frozenset({_S.QUEUED, _S.ACCEPTED}),
}

#: States that nothing but a person's or an application's decision will change.
FINAL_STATES = frozenset({_S.ACCEPTED, _S.REJECTED, _S.SUPPRESSED, _S.CANCELLED, _S.EXPIRED})


#: Which recipient's state speaks for the whole message: the first of these that occurs.
_MESSAGE_PRECEDENCE = (
    _S.SENDING,
    _S.QUEUED,
    _S.IN_DOUBT,
    _S.DEFERRED,
    _S.REJECTED,
    _S.SUPPRESSED,
    _S.EXPIRED,
    _S.CANCELLED,
    _S.ACCEPTED,
)


def message_state(recipients: Iterable[RecipientState]) -> RecipientState:
    """Derive a message's state: the least settled of its recipients' states.

    A message is ``accepted`` only when every recipient is. A state that this version does not
    know comes first: nobody can say what it means.

    Raises:
        ValueError: there is no recipient.
    """
    found = set(recipients)
    if not found:
        raise ValueError("expected at least one recipient, got: none")
    unknown = found.difference(_MESSAGE_PRECEDENCE)
    return min(unknown) if unknown else next(one for one in _MESSAGE_PRECEDENCE if one in found)
