"""The envelope of one mail transaction, and the delivery reports it asks for.

No address in an envelope can end an SMTP command.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from postroom.errors import InvalidAddress, MessageError
from postroom.text import check_line, shorten_repr

_REPORTABLE = {"SUCCESS", "FAILURE", "DELAY"}
_MAX_ENVID = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DsnOptions:
    """The delivery status notifications to ask for (RFC 3461), if the relay announces DSN.

    Attributes:
        notify: When to send a report: ``NEVER`` alone, or any of ``SUCCESS``, ``FAILURE``,
            ``DELAY``; empty: the relay decides.
        ret: What a report contains: ``FULL`` for the whole mail, ``HDRS`` for its header; empty:
            the relay decides.
        envid: An identifier that the report repeats: up to 100 printable ASCII characters; empty:
            none.

    Raises:
        MessageError: One of them has no such value (RFC 3461 section 4).
    """

    notify: tuple[str, ...] = ()
    ret: str = ""
    envid: str = ""

    def __post_init__(self) -> None:
        """Check the values (RFC 3461 section 4)."""
        notify: Any = self.notify
        is_list = isinstance(notify, tuple | list) and all(isinstance(one, str) for one in notify)
        if not is_list or not (set(notify) <= _REPORTABLE or set(notify) == {"NEVER"}):
            raise MessageError(
                "notify must be NEVER, or some of SUCCESS, FAILURE and DELAY, not "
                f"{shorten_repr(notify)}"
            )
        object.__setattr__(self, "notify", tuple(notify))
        if self.ret not in ("", "FULL", "HDRS"):
            raise MessageError(f"ret must be FULL, HDRS or empty, not {shorten_repr(self.ret)}")
        envid = check_line(self.envid, "envid", error=MessageError)
        if not envid.isascii() or len(envid) > _MAX_ENVID:
            raise MessageError(
                f"envid must have up to {_MAX_ENVID} ASCII characters, not {shorten_repr(envid)}"
            )


# Not frozen, though nothing changes it: one is made for every mail.
@dataclass(slots=True, kw_only=True)
class Envelope:
    """The sender and the recipients of one transaction (RFC 5321 section 3.3).

    Addresses are in the form of the envelope: domains as A-labels, local parts as they are.

    Attributes:
        sender: The address for MAIL FROM; empty: the null reverse-path.
        recipients: The addresses for RCPT TO, at least one.
        size_bytes: The size of the content without the final dot (RFC 1870 section 5).
        needs_smtputf8: An address or a header needs SMTPUTF8 (RFC 6531).
        dsn: The reports to ask for; None: none.
    """

    sender: str
    recipients: tuple[str, ...]
    size_bytes: int
    needs_smtputf8: bool = False
    dsn: DsnOptions | None = None

    def __post_init__(self) -> None:
        """Refuse what would end a command, in case another program wrote the row."""
        if not isinstance(self.recipients, tuple):
            raise MessageError("the recipients of an envelope must be a tuple")
        try:
            paths = "".join((self.sender, *self.recipients))
        except TypeError as error:
            raise MessageError(f"the addresses of an envelope must be text ({error})") from error
        if not paths.isprintable() or " " in paths or "<" in paths or ">" in paths:
            raise InvalidAddress(
                f"the addresses of an envelope must be words, not {shorten_repr(self.recipients)} "
                f"from {shorten_repr(self.sender)}"
            )
