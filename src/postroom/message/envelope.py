"""What travels between the composer and a relay, before the content itself: the envelope."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from postroom.errors import InvalidAddress, MessageError
from postroom.text import check_line, shorten_repr

_REPORTED = {"SUCCESS", "FAILURE", "DELAY"}
_LONGEST_ENVID = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class DsnOptions:
    """What we ask a relay to report back (RFC 3461); used where it announces DSN.

    ``notify`` holds ``NEVER`` alone, or any of ``SUCCESS``, ``FAILURE``, ``DELAY``. ``ret`` is
    ``FULL``, ``HDRS`` or empty. ``envid`` is printable US-ASCII of at most 100 characters.

    Raises:
        MessageError: a relay would not understand it.
    """

    notify: tuple[str, ...] = ()
    ret: str = ""
    envid: str = ""

    def __post_init__(self) -> None:
        """Refuse what a relay would not understand (RFC 3461 section 4)."""
        notify: Any = self.notify
        is_list = isinstance(notify, tuple | list) and all(isinstance(one, str) for one in notify)
        if not is_list or not (set(notify) <= _REPORTED or set(notify) == {"NEVER"}):
            raise MessageError(
                "expected notify to be NEVER, or of SUCCESS, FAILURE and DELAY, got: "
                f"{shorten_repr(notify)}"
            )
        object.__setattr__(self, "notify", tuple(notify))
        if self.ret not in ("", "FULL", "HDRS"):
            raise MessageError(
                f"expected ret to be FULL, HDRS or empty, got: {shorten_repr(self.ret)}"
            )
        envid = check_line(self.envid, "envid", error=MessageError)
        if not envid.isascii() or len(envid) > _LONGEST_ENVID:
            raise MessageError(
                f"expected envid to be up to {_LONGEST_ENVID} ASCII characters, got: "
                f"{shorten_repr(envid)}"
            )


# Not frozen, though nothing changes it: one is made for every mail.
@dataclass(slots=True, kw_only=True)
class Envelope:
    """MAIL FROM and RCPT TO of one transaction (RFC 5321 section 3.3).

    ``sender`` may be empty (the null reverse-path). Addresses are in the form the envelope
    carries: domains as A-labels, local parts as they are; ``needs_smtputf8`` says whether any of
    them, or a header, needs RFC 6531. ``size_bytes`` counts the content before dot-stuffing.
    """

    sender: str
    recipients: tuple[str, ...]
    size_bytes: int
    needs_smtputf8: bool = False
    dsn: DsnOptions | None = None

    def __post_init__(self) -> None:
        """Refuse what would end a command: for the row that something else has written."""
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
