"""Claims for tests that need no database."""

from __future__ import annotations

from typing import Any

from postroom.storage.ledger import Claim
from postroom.values.states import Lane


def claim(recipient_id: int, lane: Lane = Lane.NORMAL, **fields: Any) -> Claim:
    """Return a fresh claim with what a test does not care about filled in."""
    return Claim(
        **{
            "recipient_id": recipient_id,
            "message_id": 1,
            "token": 1,
            "lane": lane.rank,
            "claimed_at": 1_777_000_000.0,
            "address": f"r{recipient_id}@example.com",
            "name": "",
            "variables": None,
            "claims": 1,
            "tries": 0,
            "has_intent": False,
            "suppressed_because": None,
            **fields,
        }
    )
