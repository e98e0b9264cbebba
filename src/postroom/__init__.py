"""Postroom: the email outbox for SQLAlchemy applications."""

from __future__ import annotations

from postroom.delivery.config import WorkerConfig
from postroom.delivery.worker import Worker
from postroom.errors import (
    AttachmentError,
    AuthError,
    ConfigError,
    ConnectError,
    Disconnected,
    IdempotencyConflict,
    InvalidAddress,
    InvalidHeader,
    LeaseLost,
    MessageError,
    MessageTooLarge,
    PostroomError,
    RecipientError,
    RelayError,
    RelayTimeout,
    SchemaError,
    TemplateError,
    TemplateTooSlow,
    TLSError,
    UnknownMessage,
)
from postroom.message.address import Address
from postroom.message.attachment import Attachment
from postroom.message.csv_table import CsvStyle
from postroom.message.envelope import DsnOptions
from postroom.message.message import Message, Recipient
from postroom.message.templates import RenderBudget, Template
from postroom.outbox import Outbox
from postroom.relays.relay import Relay
from postroom.relays.routing import RoutingTable
from postroom.states import Fault, Lane, OnDoubt, Phase, RecipientState
from postroom.storage.actions import CancelResult
from postroom.storage.engine import configure_sqlite
from postroom.storage.enqueue_request import Receipt
from postroom.storage.queries import (
    Attempt,
    Explanation,
    MessageStatus,
    MessageSummary,
    OutboxStats,
    RecipientStatus,
    Search,
)
from postroom.version import __version__

__all__ = [
    "Address",
    "Attachment",
    "AttachmentError",
    "Attempt",
    "AuthError",
    "CancelResult",
    "ConfigError",
    "ConnectError",
    "CsvStyle",
    "Disconnected",
    "DsnOptions",
    "Explanation",
    "Fault",
    "IdempotencyConflict",
    "InvalidAddress",
    "InvalidHeader",
    "Lane",
    "LeaseLost",
    "Message",
    "MessageError",
    "MessageStatus",
    "MessageSummary",
    "MessageTooLarge",
    "OnDoubt",
    "Outbox",
    "OutboxStats",
    "Phase",
    "PostroomError",
    "Receipt",
    "Recipient",
    "RecipientError",
    "RecipientState",
    "RecipientStatus",
    "Relay",
    "RelayError",
    "RelayTimeout",
    "RenderBudget",
    "RoutingTable",
    "SchemaError",
    "Search",
    "TLSError",
    "Template",
    "TemplateError",
    "TemplateTooSlow",
    "UnknownMessage",
    "Worker",
    "WorkerConfig",
    "__version__",
    "configure_sqlite",
]
