"""Postroom: the email outbox for SQLAlchemy applications."""

from __future__ import annotations

from postroom.config.settings import Settings
from postroom.delivery.config import WorkerConfig
from postroom.delivery.worker import Worker
from postroom.errors import (
    AttachmentError,
    ConfigError,
    IdempotencyConflict,
    InvalidAddress,
    InvalidHeader,
    MessageError,
    MessageTooLarge,
    PostroomError,
    RecipientError,
    SchemaError,
    TemplateError,
    TemplateTooSlow,
    UnknownMessage,
)
from postroom.message.address import Address
from postroom.message.attachment import Attachment, Disposition
from postroom.message.csv_table import CsvStyle
from postroom.message.envelope import DsnOptions
from postroom.message.message import Message, Recipient
from postroom.message.templates import RenderBudget, Template
from postroom.outbox import Outbox
from postroom.relays.options import AuthMechanism, Pipelining, Rate, TlsMode
from postroom.relays.relay import Relay, Secret, Timeouts
from postroom.relays.route import Failover, RoundRobin
from postroom.relays.routing import RoutingTable
from postroom.states import Fault, Lane, OnDoubt, Phase, RecipientState, RecipientType
from postroom.storage.actions import CancelResult
from postroom.storage.engine import configure_sqlite
from postroom.storage.enqueue_request import Receipt
from postroom.storage.prune import Pruned
from postroom.storage.queries import (
    Attempt,
    Explanation,
    MessageStatus,
    MessageSummary,
    OutboxStats,
    RecipientStatus,
    WorkerStatus,
)
from postroom.version import __version__

__all__ = [
    "Address",
    "Attachment",
    "AttachmentError",
    "Attempt",
    "AuthMechanism",
    "CancelResult",
    "ConfigError",
    "CsvStyle",
    "Disposition",
    "DsnOptions",
    "Explanation",
    "Failover",
    "Fault",
    "IdempotencyConflict",
    "InvalidAddress",
    "InvalidHeader",
    "Lane",
    "Message",
    "MessageError",
    "MessageStatus",
    "MessageSummary",
    "MessageTooLarge",
    "OnDoubt",
    "Outbox",
    "OutboxStats",
    "Phase",
    "Pipelining",
    "PostroomError",
    "Pruned",
    "Rate",
    "Receipt",
    "Recipient",
    "RecipientError",
    "RecipientState",
    "RecipientStatus",
    "RecipientType",
    "Relay",
    "RenderBudget",
    "RoundRobin",
    "RoutingTable",
    "SchemaError",
    "Secret",
    "Settings",
    "Template",
    "TemplateError",
    "TemplateTooSlow",
    "Timeouts",
    "TlsMode",
    "UnknownMessage",
    "Worker",
    "WorkerConfig",
    "WorkerStatus",
    "__version__",
    "configure_sqlite",
]
