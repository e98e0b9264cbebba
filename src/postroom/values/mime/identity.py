"""Message-IDs: the same for every try of one copy, so that receivers can drop a duplicate."""

from __future__ import annotations

from postroom.values.address import Address


def message_id_for(token: str, recipient_id: int | None, sender: Address) -> str:
    """Return the Message-ID of one copy (RFC 5322 section 3.6.4), in angle brackets.

    ``recipient_id`` is None for a message that all its recipients receive together.
    """
    copy = token if recipient_id is None else f"{token}.{recipient_id}"
    return f"<{copy}@{sender.ascii_domain}>"
