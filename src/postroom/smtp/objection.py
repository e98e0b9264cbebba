"""What a relay has announced it could not take, known before a word is said."""

from __future__ import annotations

from postroom.smtp.capabilities import Capabilities
from postroom.values.envelope import Envelope
from postroom.values.reply import Outcome, Reply
from postroom.values.states import Fault, Phase, RecipientState


def objection_to(envelope: Envelope, capabilities: Capabilities) -> Outcome | None:
    """Return why a relay could not take ``envelope``; None where nothing is known against it."""
    limit = capabilities.size_bytes
    if limit is not None and envelope.size_bytes > limit:
        return _refused(
            f"5.3.4 not sent: the relay takes up to {limit} bytes, got: {envelope.size_bytes}",
            Fault.MESSAGE,
        )
    if envelope.needs_smtputf8 and not capabilities.has_smtputf8:
        return _refused(
            "5.6.7 not sent: an address is not ASCII, and the relay lacks SMTPUTF8",
            Fault.RECIPIENT,
        )
    return None


def _refused(text: str, fault: Fault) -> Outcome:
    return Outcome(
        state=RecipientState.REJECTED,
        fault=fault,
        reply=Reply(code=0, lines=(text,)),
        phase=Phase.MAIL,
    )
