"""The settings: ``POSTROOM_*`` variables over a ``postroom.toml``, checked by name and type.

Whatever is wrong becomes a `ConfigError` that names the setting and never shows a secret.
"""

from __future__ import annotations

import os
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from postroom.config.sources import (
    PREFIX,
    describe_validation_error,
    read_settings_file,
    refuse_unknown_variables,
)
from postroom.delivery.config import WorkerConfig
from postroom.duration import parse_duration_s
from postroom.errors import ConfigError
from postroom.message.address import Address
from postroom.message.templates import DEFAULT_BUDGET, RenderBudget
from postroom.relays.routing import RoutingTable
from postroom.states import Lane, OnDoubt

__all__ = ["PREFIX", "LogFormat", "LogLevel", "Settings"]

#: Settings whose values never appear in a text.
_SECRET = frozenset({"database_url", "redis_url", "relay"})

_WORKER = WorkerConfig()


class LogFormat(StrEnum):
    """How a worker writes its log."""

    #: One line for people.
    TEXT = "text"
    #: One JSON object a line, for machines.
    JSON = "json"


class LogLevel(StrEnum):
    """The least that is logged."""

    #: Every step of every conversation.
    DEBUG = "debug"
    #: What happened to each recipient.
    INFO = "info"
    #: What someone may want to look at.
    WARNING = "warning"
    #: What someone must look at.
    ERROR = "error"


def _folders(value: object) -> object:
    """Split one text of folders as the operating system splits PATH."""
    return value.split(os.pathsep) if isinstance(value, str) else value


def _pairs(value: object) -> object:
    """Read ``urgent=8,normal=4,bulk=1``, which is how a variable says it."""
    if not isinstance(value, str):
        return value
    pairs = (pair.partition("=") for pair in value.split(",") if pair.strip())
    return {name.strip(): given.strip() for name, _, given in pairs}


def _seconds(value: object) -> object:
    """Read ``30s`` or ``2min``; a number, also one in a text, is in seconds."""
    if not isinstance(value, str):
        return value
    with suppress(ValueError):
        return float(value)
    try:
        return parse_duration_s(value)
    except ValueError as error:
        raise ValueError(f"must be a number of seconds or {error}, not {value!r}") from None


Seconds: TypeAlias = Annotated[float, BeforeValidator(_seconds)]


def _address(value: str | None) -> str | None:
    """Refuse what is no address, long before the first message."""
    if value is not None:
        Address(value)
    return value


class Settings(BaseSettings):
    """Everything that can be set from outside; each field is one setting."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        # An empty variable, as compose files like to leave them, is one that is not set.
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    database_url: SecretStr | None = Field(
        default=None, description="The database that holds the outbox, as an SQLAlchemy URL."
    )
    database_schema: str | None = Field(
        default=None,
        examples=["mail"],
        description="The schema the tables live in (PostgreSQL); the default one if unset.",
    )
    relay: SecretStr | dict[str, SecretStr] | None = Field(
        default=None,
        examples=["smtps://user:password@smtp.example.com"],
        description="Where mail is handed over: a relay URL, or a table of named ones "
        "of which the first is the default.",
    )
    relay_by_lane: Annotated[dict[str, str], NoDecode, BeforeValidator(_pairs)] = Field(
        default={},
        examples=[{"bulk": "marketing"}],
        description="Which relay a lane's messages go to, where they name none: bulk=marketing.",
    )
    relay_by_sender: Annotated[dict[str, str], NoDecode, BeforeValidator(_pairs)] = Field(
        default={},
        examples=[{"news.example.com": "marketing"}],
        description="Which relay messages from a sender's domain go to, where they name none; "
        "it wins over their lane's.",
    )
    sender: Annotated[str | None, AfterValidator(_address)] = Field(
        default=None,
        examples=["Shop <shop@example.com>"],
        description='Who a message is from that names no sender: "Shop <shop@example.com>".',
    )
    templates: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_folders)] = Field(
        default=(),
        examples=[["templates"]],
        description="The folders that templates are looked for in, in this order.",
    )
    inline_css: bool = Field(
        default=False,
        description="Whether style sheets in HTML are written into its elements, for mail readers "
        "that know no style sheets; needs the extra css.",
    )
    template_seconds: Seconds = Field(
        default=DEFAULT_BUDGET.seconds,
        gt=0,
        description="How long the templates of one message may take to render before it is "
        "refused, in seconds.",
    )
    max_message_bytes: int = Field(
        default=25 * 1024 * 1024,
        ge=1024,
        description="The largest message that is accepted, as it would go over the wire.",
    )
    on_doubt: OnDoubt = Field(
        default=OnDoubt.RESEND,
        description="What `postroom send` asks for where a connection breaks between the final "
        "dot and its reply: resend, or hold until `postroom resolve`.",
    )
    notify: bool = Field(
        default=True,
        description="Whether a commit on PostgreSQL wakes the workers at once by NOTIFY.",
    )
    redirect_all_to: Annotated[str | None, AfterValidator(_address)] = Field(
        default=None,
        examples=["staging@example.com"],
        description="An address that gets every mail instead of those it is for, for staging; a "
        "header names them.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        examples=["redis://localhost:6379/0"],
        description="A Redis through which workers share the rates and breakers of relays; without "
        "one, and while it is away, each process keeps its own. Needs the extra redis.",
    )
    connections_per_relay: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        examples=[8],
        description="How many connections a worker keeps to a relay, instead of what its URL says.",
    )
    in_process_worker: bool = Field(
        default=True,
        description="Whether a web application delivers from its own processes; off where "
        "`postroom worker` or Celery does it alone.",
    )
    lease_s: Seconds = Field(
        default=_WORKER.lease_s,
        ge=1,
        description="How long a claim holds, and a killed worker's recipients wait, in seconds.",
    )
    claim_batch_size: int = Field(
        default=_WORKER.claim_batch_size,
        ge=1,
        description="The most recipients a worker claims at once.",
    )
    max_uncommitted: int = Field(
        default=_WORKER.max_uncommitted,
        ge=1,
        description="The most accepted mails that wait for their commit: what a killed worker may "
        "send twice, besides one for each connection.",
    )
    poll_interval_s: Seconds = Field(
        default=_WORKER.poll_interval_s,
        gt=0,
        description="How often a worker asks for what is due while nobody gives it a hint.",
    )
    shutdown_grace_s: Seconds = Field(
        default=_WORKER.shutdown_grace_s,
        gt=0,
        description="How long a worker that is told to stop finishes what is on the wire.",
    )
    in_doubt_retry_s: Seconds = Field(
        default=_WORKER.in_doubt_retry_s,
        gt=0,
        description="When a recipient in doubt is sent again, in seconds, where it may be; each "
        "further time twice as late, up to 4 hours.",
    )
    max_resends: int = Field(
        default=_WORKER.max_resends,
        ge=1,
        le=1000,
        description="How often a recipient in doubt is sent again; then it is held until "
        "`postroom resolve`.",
    )
    max_claims_without_outcome: int = Field(
        default=_WORKER.max_claims_without_outcome,
        ge=1,
        le=1000,
        description="A recipient claimed this often without an outcome is set aside.",
    )
    lane_weights: Annotated[dict[Lane, int], NoDecode, BeforeValidator(_pairs)] = Field(
        default=dict(_WORKER.lane_weights),
        description="How lanes share a worker while all of them have mail waiting.",
    )
    debug_loop: bool = Field(
        default=_WORKER.debug_loop,
        description="Whether a worker logs what holds all its conversations up for more than "
        "50 ms, for development; always so under `python -X dev`.",
    )
    log_format: LogFormat = Field(
        default=LogFormat.TEXT,
        description="How the command logs: text for people, json for machines.",
    )
    log_level: LogLevel = Field(
        default=LogLevel.INFO,
        description="The least that is logged: debug, info, warning or error.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let arguments beat the environment, and the environment the file."""
        return (
            init_settings,
            env_settings,
            InitSettingsSource(settings_cls, read_settings_file(cls.model_fields)),
        )

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Read the environment and the settings file; what is ``given`` wins over both.

        Raises:
            ConfigError: the file cannot be read, a setting is unknown or a value does not fit.
        """
        refuse_unknown_variables(cls.model_fields)
        try:
            return cls(**given)
        except ValidationError as error:
            # From None: pydantic's own text and chain may hold the value, which may be secret.
            raise ConfigError(describe_validation_error(error, _SECRET)) from None

    def required_database_url(self) -> str:
        """Return the database's URL.

        Raises:
            ConfigError: none is set.
        """
        if self.database_url is None:
            raise ConfigError(
                f"expected a database, got: none; set {PREFIX}DATABASE_URL, or run: postroom init"
            )
        return self.database_url.get_secret_value()

    def routing(self) -> RoutingTable | None:
        """Return the relays and how they are chosen; None where no relay is set.

        Raises:
            ConfigError: a relay's URL or a rule cannot be made sense of.
        """
        if self.relay is None:
            return None
        named = self.relay if isinstance(self.relay, dict) else {"": self.relay}
        routing = RoutingTable.of(
            {name: url.get_secret_value() for name, url in named.items()},
            by_sender=self.relay_by_sender,
            by_lane=self.relay_by_lane,
        )
        return (
            routing
            if self.connections_per_relay is None
            else routing.with_connections(self.connections_per_relay)
        )

    def worker_config(self) -> WorkerConfig:
        """Return how a worker works by these settings; a lane left out keeps its weight."""
        return WorkerConfig(
            lease_s=self.lease_s,
            claim_batch_size=self.claim_batch_size,
            max_uncommitted=self.max_uncommitted,
            poll_interval_s=self.poll_interval_s,
            shutdown_grace_s=self.shutdown_grace_s,
            in_doubt_retry_s=self.in_doubt_retry_s,
            max_resends=self.max_resends,
            max_claims_without_outcome=self.max_claims_without_outcome,
            lane_weights={**_WORKER.lane_weights, **self.lane_weights},
            render_budget=RenderBudget(seconds=self.template_seconds),
            debug_loop=self.debug_loop,
        )
