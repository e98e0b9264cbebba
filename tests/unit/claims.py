"""Claims and stored messages for tests that need no database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from postroom.message.address import Address
from postroom.message.message import Draft
from postroom.states import Lane, OnDoubt
from postroom.storage.message_store import StoredMessage
from postroom.storage.queue.records import Claim


def claim(recipient_id: int, lane: Lane = Lane.NORMAL, **fields: Any) -> Claim:
    """Return a fresh claim with what a test does not care about filled in."""
    return Claim(
        **{
            "recipient_id": recipient_id,
            "message_id": 1,
            "lease_token": 1,
            "lane": lane.rank,
            "claimed_at": 1_777_000_000.0,
            "address": f"r{recipient_id}@example.com",
            "name": "",
            "variables": None,
            "claim_count": 1,
            "try_count": 0,
            "has_intent": False,
            "suppression_reason": None,
            "attempt_count": 0,
            "in_doubt_count": 0,
            **fields,
        }
    )


def stored_message(**fields: Any) -> StoredMessage:
    """Return a stored message with what a test does not care about filled in."""
    draft = Draft(
        message_id_seed="0" * 32,
        date=datetime(2026, 5, 4, tzinfo=UTC),
        sender=Address("Shop <shop@example.com>"),
        subject="Order A-1",
        text="Thank you.",
        html=None,
    )
    return StoredMessage(
        **{
            "id": 1,
            "draft": draft,
            "envelope_sender": "shop@example.com",
            "lane": Lane.NORMAL,
            "relay": None,
            "shared": False,
            "on_doubt": OnDoubt.RESEND,
            "expires_at": None,
            "retry_delays_s": None,
            "dsn": None,
            **fields,
        }
    )
