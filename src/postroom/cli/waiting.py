"""Waiting for a message, and what became of each of its recipients."""

from __future__ import annotations

from datetime import timedelta

from rich.table import Table
from sqlalchemy.orm import Session

from postroom.cli.opening import Opened
from postroom.cli.output import grid
from postroom.storage.queries import MessageStatus


def delivered(desk: Opened, message_id: int, timeout: timedelta) -> MessageStatus:
    """Deliver from this process and return how ``message_id`` stands at the end.

    Other mail that is due goes out as well, as from any worker; this one need not be the only.
    """
    with Session(desk.engine) as session:
        return desk.outbox.deliver_now(session, message_id, timeout_s=timeout.total_seconds())


def outcomes(message: MessageStatus) -> Table:
    """Return a line for each recipient: where it stands and what the relay said."""
    rows = ((one.address, one.state, one.reply) for one in message.recipients)
    return grid(["recipient", "state", "reply"], rows)
