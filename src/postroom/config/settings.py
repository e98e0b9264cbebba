"""All settings: from ``POSTROOM_*`` variables and ``postroom.toml``, checked by name and type.

Whatever is wrong is a `ConfigError` that names the setting and never shows a secret.
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

#: The settings whose values no error text shows.
_SECRET = frozenset({"database_url", "redis_url", "relay"})

_WORKER_DEFAULTS = WorkerConfig()


class LogFormat(StrEnum):
    """The format of a worker's log."""

    #: Lines for people.
    TEXT = "text"
    #: One JSON object in each line, for programs.
    JSON = "json"


class LogLevel(StrEnum):
    """The lowest level that is logged."""

    #: Every step of every SMTP session.
    DEBUG = "debug"
    #: What happened to each recipient.
    INFO = "info"
    #: Problems that somebody may want to look at.
    WARNING = "warning"
    #: Problems that somebody must look at.
    ERROR = "error"


def _split_folders(value: object) -> object:
    """Split a text at the separator of PATH."""
    return value.split(os.pathsep) if isinstance(value, str) else value


def _split_pairs(value: object) -> object:
    """Read ``urgent=8,normal=4,bulk=1``, the form in a variable."""
    if not isinstance(value, str):
        return value
    pairs = (pair.partition("=") for pair in value.split(",") if pair.strip())
    return {name.strip(): text.strip() for name, _, text in pairs}


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


def _check_address(value: str | None) -> str | None:
    """Refuse what is not an address now, and not at the first message."""
    if value is not None:
        Address(value)
    return value


class Settings(BaseSettings):
    """All settings; each field is one, and its description says what it does.

    Arguments win over the environment, and the environment over the settings file. Use ``load``,
    which also refuses unknown variables.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        # Compose files often leave a variable empty; that means "not set".
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
        description="The schema of the tables (PostgreSQL); unset: the default schema.",
    )
    relay: SecretStr | dict[str, SecretStr] | None = Field(
        default=None,
        examples=["smtps://user:password@smtp.example.com"],
        description="Where mail is sent to: a relay URL, or a table of relays by name; the first "
        "one is the default.",
    )
    relay_by_lane: Annotated[dict[str, str], NoDecode, BeforeValidator(_split_pairs)] = Field(
        default={},
        examples=[{"bulk": "marketing"}],
        description="The relay for the messages of a lane, if they name none: bulk=marketing.",
    )
    relay_by_sender: Annotated[dict[str, str], NoDecode, BeforeValidator(_split_pairs)] = Field(
        default={},
        examples=[{"news.example.com": "marketing"}],
        description="The relay for the messages of a sender's domain, if they name none; it wins "
        "over that of the lane.",
    )
    sender: Annotated[str | None, AfterValidator(_check_address)] = Field(
        default=None,
        examples=["Shop <shop@example.com>"],
        description='The sender of messages that name none: "Shop <shop@example.com>".',
    )
    templates: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split_folders)] = Field(
        default=(),
        examples=[["templates"]],
        description="The folders to search for templates, in this order.",
    )
    inline_css: bool = Field(
        default=False,
        description="Whether style sheets in HTML are written into its elements, for mail "
        "readers without style sheets; needs the extra css.",
    )
    template_seconds: Seconds = Field(
        default=DEFAULT_BUDGET.seconds,
        gt=0,
        description="How long the templates of one message may take to render, in seconds; then "
        "the message is refused.",
    )
    max_message_bytes: int = Field(
        default=25 * 1024 * 1024,
        ge=1024,
        description="The largest message that is accepted, in bytes as they are sent.",
    )
    on_doubt: OnDoubt = Field(
        default=OnDoubt.RESEND,
        description="What happens to mail of `postroom send` if the connection breaks between "
        "the final dot and its reply: resend, or hold until `postroom resolve`.",
    )
    notify: bool = Field(
        default=True,
        description="Whether a commit on PostgreSQL wakes the workers immediately, by NOTIFY.",
    )
    redirect_all_to: Annotated[str | None, AfterValidator(_check_address)] = Field(
        default=None,
        examples=["staging@example.com"],
        description="An address that gets every mail instead of its recipients, for staging; a "
        "header names them.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        examples=["redis://localhost:6379/0"],
        description="A Redis through which workers share rate limits and circuit breakers; "
        "without one, and while it is down, each process has its own. Needs the extra redis.",
    )
    connections_per_relay: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        examples=[8],
        description="How many connections a worker has to a relay, instead of what its URL says.",
    )
    in_process_worker: bool = Field(
        default=True,
        description="Whether a web application delivers from its own processes; turn it off if "
        "only `postroom worker` or Celery delivers.",
    )
    lease_s: Seconds = Field(
        default=_WORKER_DEFAULTS.lease_s,
        ge=1,
        description="How long a claim is valid, in seconds; the recipients of a killed worker "
        "wait as long.",
    )
    claim_batch_size: int = Field(
        default=_WORKER_DEFAULTS.claim_batch_size,
        ge=1,
        description="The most recipients that a worker claims at once.",
    )
    max_uncommitted: int = Field(
        default=_WORKER_DEFAULTS.max_uncommitted,
        ge=1,
        description="The most accepted mails that are not committed yet: a killed worker may "
        "send them twice, and one more for each connection.",
    )
    poll_interval_s: Seconds = Field(
        default=_WORKER_DEFAULTS.poll_interval_s,
        gt=0,
        description="How often a worker looks for due mail when nothing wakes it, in seconds.",
    )
    shutdown_grace_s: Seconds = Field(
        default=_WORKER_DEFAULTS.shutdown_grace_s,
        gt=0,
        description="How long a stopping worker may take to finish the mails it is sending, in "
        "seconds.",
    )
    in_doubt_retry_s: Seconds = Field(
        default=_WORKER_DEFAULTS.in_doubt_retry_s,
        gt=0,
        description="When a recipient in doubt is sent again, in seconds, if it may be; the wait "
        "doubles each time, up to 4 hours.",
    )
    max_resends: int = Field(
        default=_WORKER_DEFAULTS.max_resends,
        ge=1,
        le=1000,
        description="How often a recipient in doubt is sent again before it is held until "
        "`postroom resolve`.",
    )
    max_claims_without_outcome: int = Field(
        default=_WORKER_DEFAULTS.max_claims_without_outcome,
        ge=1,
        le=1000,
        description="A recipient that is claimed this often without an outcome is set aside.",
    )
    lane_weights: Annotated[dict[Lane, int], NoDecode, BeforeValidator(_split_pairs)] = Field(
        default=dict(_WORKER_DEFAULTS.lane_weights),
        description="How the lanes share a worker while all of them have mail.",
    )
    debug_loop: bool = Field(
        default=_WORKER_DEFAULTS.debug_loop,
        description="Whether a worker logs what blocks all its connections for more than 50 ms, "
        "for development; always on with `python -X dev`.",
    )
    log_format: LogFormat = Field(
        default=LogFormat.TEXT,
        description="How the command logs: text for people, json for machines.",
    )
    log_level: LogLevel = Field(
        default=LogLevel.INFO,
        description="The lowest level that is logged: debug, info, warning or error.",
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
        """Let arguments win over the environment, and the environment over the file."""
        return (
            init_settings,
            env_settings,
            InitSettingsSource(settings_cls, read_settings_file(cls.model_fields)),
        )

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Read the environment and the settings file.

        Args:
            given: Settings by name; they win over both.

        Raises:
            ConfigError: The file cannot be read, a setting is unknown, or a value is wrong.
        """
        refuse_unknown_variables(cls.model_fields)
        try:
            return cls(**given)
        except ValidationError as error:
            # From None: pydantic's own text may contain the value, which may be secret.
            raise ConfigError(describe_validation_error(error, _SECRET)) from None

    def required_database_url(self) -> str:
        """Return the database URL.

        Raises:
            ConfigError: It is not set.
        """
        if self.database_url is None:
            raise ConfigError(
                f"no database is set; set {PREFIX}DATABASE_URL, or run: postroom init"
            )
        return self.database_url.get_secret_value()

    def routing(self) -> RoutingTable | None:
        """Return the relays and the rules to choose one; None if no relay is set.

        Raises:
            ConfigError: A relay URL or a rule cannot be read.
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
        """Return the configuration of a worker; a lane left out keeps its default weight."""
        return WorkerConfig(
            lease_s=self.lease_s,
            claim_batch_size=self.claim_batch_size,
            max_uncommitted=self.max_uncommitted,
            poll_interval_s=self.poll_interval_s,
            shutdown_grace_s=self.shutdown_grace_s,
            in_doubt_retry_s=self.in_doubt_retry_s,
            max_resends=self.max_resends,
            max_claims_without_outcome=self.max_claims_without_outcome,
            lane_weights={**_WORKER_DEFAULTS.lane_weights, **self.lane_weights},
            render_budget=RenderBudget(seconds=self.template_seconds),
            debug_loop=self.debug_loop,
        )
