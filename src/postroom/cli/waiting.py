"""Waiting for a message: until every recipient of it is final, or time is up."""

from __future__ import annotations

import time
from datetime import timedelta

from rich.table import Table

from postroom.cli.opening import Opened
from postroom.cli.output import grid
from postroom.storage.queries import MessageStatus
from postroom.values.states import FINAL_STATES

#: How often the database is asked; a person does not feel it.
_LOOK_EVERY_S = 0.1


def delivered(desk: Opened, message_id: int, timeout: timedelta) -> MessageStatus:
    """Deliver from this process and return how ``message_id`` stands at the end.

    Other mail that is due goes out as well, as from any worker; this one need not be the only.
    """
    give_up_at = time.monotonic() + timeout.total_seconds()
    with desk.outbox.running():
        while True:
            with desk.reading() as connection:
                message = desk.outbox.status(connection, message_id)
            if _is_over(message) or time.monotonic() >= give_up_at:
                return message
            time.sleep(_LOOK_EVERY_S)


def outcomes(message: MessageStatus) -> Table:
    """Return a line for each recipient: where it stands and what the relay said."""
    rows = ((one.address, one.state, one.reply) for one in message.recipients)
    return grid(["recipient", "state", "reply"], rows)


def _is_over(message: MessageStatus) -> bool:
    return all(one.state in FINAL_STATES for one in message.recipients)
