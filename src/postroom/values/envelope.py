"""What travels between the composer and a relay: the envelope, and the bytes behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryNotice:
    """What we ask a relay to report back (RFC 3461); used where it announces DSN.

    ``notify`` holds ``NEVER`` alone, or any of ``SUCCESS``, ``FAILURE``, ``DELAY``. ``ret`` is
    ``FULL``, ``HDRS`` or empty. ``envid`` is printable US-ASCII of at most 100 characters.
    """

    notify: tuple[str, ...] = ()
    ret: str = ""
    envid: str = ""


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
    notice: DeliveryNotice | None = None


class Payload(Protocol):
    """The content of one transaction, as it goes over the wire."""

    @property
    def size_bytes(self) -> int:
        """Octets before dot-stuffing, without the terminator (RFC 1870 section 5)."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Yield the dot-stuffed bytes in pieces of at most 256 KiB.

        The last piece ends with CRLF; the terminating ``.`` line is the transport's. Each call
        yields the same bytes again.
        """
        ...
