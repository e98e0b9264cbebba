"""Testing: a scripted relay and pytest fixtures, for applications' tests and for Postroom's own."""

from postroom.testing.deliver import DeliverMail, DeliveryResult, ReceivedMail
from postroom.testing.enqueued_mail import EnqueuedMail
from postroom.testing.faulty_relay import (
    Accepted,
    FaultyRelay,
    Misbehavior,
    ServerOptions,
    read_journal,
)
from postroom.testing.outbox_mail import OutboxMail
from postroom.testing.received_mail import ParsedMail, ReceivedAttachment

__all__ = [
    "Accepted",
    "DeliverMail",
    "DeliveryResult",
    "EnqueuedMail",
    "FaultyRelay",
    "Misbehavior",
    "OutboxMail",
    "ParsedMail",
    "ReceivedAttachment",
    "ReceivedMail",
    "ServerOptions",
    "read_journal",
]
