"""Postroom: the email outbox for SQLAlchemy applications."""

from __future__ import annotations

from postroom.delivery.routing import Routing
from postroom.delivery.worker import Worker
from postroom.outbox import Outbox
from postroom.storage.decisions import Cancellation
from postroom.storage.engine import prepare_sqlite
from postroom.storage.order import Receipt
from postroom.storage.queries import (
    AttemptRecord,
    Counts,
    Explanation,
    MessageStatus,
    MessageSummary,
    RecipientStatus,
    Search,
)
from postroom.values.address import Address
from postroom.values.attachment import Attachment
from postroom.values.config import WorkerConfig
from postroom.values.envelope import DeliveryNotice
from postroom.values.errors import (
    AttachmentError,
    AuthError,
    ConfigError,
    ConnectError,
    Disconnected,
    InvalidAddress,
    InvalidHeader,
    KeyConflict,
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
from postroom.values.message import Message, Recipient
from postroom.values.relay import Relay
from postroom.values.states import Fault, Lane, OnDoubt, Phase, RecipientState
from postroom.values.tabular import CsvStyle
from postroom.values.template import RenderBudget, Template
from postroom.version import __version__

__all__ = [
    "Address",
    "Attachment",
    "AttachmentError",
    "AttemptRecord",
    "AuthError",
    "Cancellation",
    "ConfigError",
    "ConnectError",
    "Counts",
    "CsvStyle",
    "DeliveryNotice",
    "Disconnected",
    "Explanation",
    "Fault",
    "InvalidAddress",
    "InvalidHeader",
    "KeyConflict",
    "Lane",
    "LeaseLost",
    "Message",
    "MessageError",
    "MessageStatus",
    "MessageSummary",
    "MessageTooLarge",
    "OnDoubt",
    "Outbox",
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
    "Routing",
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
    "prepare_sqlite",
]
