"""Every error Postroom raises, in one tree.

    PostroomError
    ├── ConfigError (also ValueError)     a setting, URL or option is wrong
    │   └── SchemaError                   the tables are missing, too old or too new
    ├── MessageError (also ValueError)    what was asked to be sent cannot be sent
    │   ├── InvalidAddress
    │   ├── InvalidHeader
    │   ├── RecipientError                nobody to write to, or an unknown user
    │   ├── AttachmentError
    │   ├── MessageTooLarge
    │   └── TemplateError
    │       └── TemplateTooSlow           it takes more than its budget allows
    ├── IdempotencyConflict               the key belongs to a message with other content
    ├── UnknownMessage (also LookupError) there is no message with this id
    ├── RelayError                        the conversation with a relay failed
    │   ├── ConnectError
    │   ├── TLSError
    │   ├── AuthError
    │   ├── RelayTimeout
    │   └── Disconnected
    └── LeaseLost                         the claim ran out before the mail was sent

A text says what is wrong with which value, and what to do. It never holds a secret.
"""

from __future__ import annotations

from postroom.smtp.reply import Reply
from postroom.states import Fault, Phase

#: What is kept of the text of somebody else's error.
_SAID_CHARACTERS = 500


class PostroomError(Exception):
    """Base of every error that Postroom raises on purpose."""


class ConfigError(PostroomError, ValueError):
    """A setting, a relay URL or an option is wrong."""


class SchemaError(ConfigError):
    """The tables in the database are missing, too old or too new for this version."""


class MessageError(PostroomError, ValueError):
    """What was asked to be sent cannot be sent; nothing has been stored."""


class InvalidAddress(MessageError):
    """An email address that cannot be written to (RFC 5321 section 4.1.2)."""


class InvalidHeader(MessageError):
    """A header name or value that must not be written (RFC 5322 section 2.2)."""


class RecipientError(MessageError):
    """Nobody to write to, a user id that does not exist, or a user without an address."""


class AttachmentError(MessageError):
    """An attachment that is missing, unreadable or that changed while it was read."""


class MessageTooLarge(MessageError):
    """A message that would exceed ``max_message_bytes``."""


class TemplateError(MessageError):
    """A template that does not parse or render; the text names file and line."""


class TemplateTooSlow(TemplateError):
    """Rendering took more time or more steps than its `RenderBudget` allows."""


class IdempotencyConflict(PostroomError):
    """The idempotency key belongs to a message with other content."""


class UnknownMessage(PostroomError, LookupError):
    """There is no message with this id: it was rolled back, pruned, or never was."""


class RelayError(PostroomError):
    """The conversation with a relay failed.

    Args:
        text: What went wrong.
        in_doubt: Whether the final dot was written and its reply never came: the relay may or may
            not have taken the message. Anything else may safely be tried again.
        phase: Where it failed.
        reply: What the relay last said about it, if anything.
        replies: What an LMTP server had answered to the final dot before it broke off: about the
            first of the accepted recipients, in their order.
        fault: Whose fault it is, where it is not that of the class.
    """

    #: Whom the failure belongs to where no reply says otherwise.
    fault: Fault = Fault.RELAY

    def __init__(
        self,
        text: str,
        *,
        in_doubt: bool = False,
        phase: Phase | None = None,
        reply: Reply | None = None,
        replies: tuple[Reply, ...] = (),
        fault: Fault | None = None,
    ) -> None:
        super().__init__(text)
        if fault is not None:
            self.fault = fault
        self.in_doubt = in_doubt
        self.phase = phase
        self.reply = reply
        self.replies = replies
        #: What was said before, where ``smtp.session.connect`` failed; without credentials.
        self.transcript = ""


class ConnectError(RelayError):
    """The relay could not be reached, or greeted us with a refusal."""


class TLSError(RelayError):
    """TLS could not be established as it was required."""


class AuthError(RelayError):
    """The relay refused our credentials, or offers no way to show them safely."""

    fault = Fault.CREDENTIALS


class RelayTimeout(RelayError):
    """A deadline passed while the relay was silent or too slow."""


class Disconnected(RelayError):
    """The connection broke, or said something that does not belong there."""


class LeaseLost(PostroomError):
    """The claim on a recipient ran out before its mail was sent."""


def named(error: BaseException) -> str:
    """Return an error that is none of ours in one line: its type and what it says."""
    try:
        said = " ".join(str(error).split())[:_SAID_CHARACTERS]
    except Exception:
        said = ""  # its __str__ fails as well
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
