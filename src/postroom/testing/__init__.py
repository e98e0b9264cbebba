"""Testing: relays and fixtures for the tests of applications, and of Postroom itself."""

from postroom.testing.arrived import Attached, Letter
from postroom.testing.deliver import ArrivedMail, Deliver, Delivery
from postroom.testing.enqueued import EnqueuedMail
from postroom.testing.faulty_relay import (
    Abilities,
    Accepted,
    FaultyRelay,
    Trouble,
    read_journal,
)
from postroom.testing.outbox_mail import OutboxMail

__all__ = [
    "Abilities",
    "Accepted",
    "ArrivedMail",
    "Attached",
    "Deliver",
    "Delivery",
    "EnqueuedMail",
    "FaultyRelay",
    "Letter",
    "OutboxMail",
    "Trouble",
    "read_journal",
]
