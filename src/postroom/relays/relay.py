"""A relay: where it is, how to connect to it, and how fast it may be used.

Whatever could only fail later, at the first mail, is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from postroom import checks
from postroom.errors import ConfigError
from postroom.relays import options
from postroom.relays import url as relay_url
from postroom.relays.options import AuthMechanism, Pipelining, Rate, TlsMode
from postroom.text import shorten_repr

#: What a login can send: NUL ends a field of AUTH PLAIN (RFC 4616 section 2), CR and LF a command.
_PRINTABLE = re.compile("[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{0,10000}")
#: The width of the columns that name a relay.
_MAX_NAME = 64
_SUBMISSION_PORT = 587  # with a login (RFC 6409)
_RELAY_PORT = 25
_PORTS = {"smtps": 465, "lmtp": 24}
_MAX_PORT = 65_535
_MAX_PATH = 4096


class Secret:
    """A password that is never shown: ``str`` and ``repr`` mask it.

    Args:
        source: The password, or a callable that returns it and is called at each login. One line
            of up to 10,000 characters.

    Raises:
        ConfigError: It is neither, or contains control characters. The text does not show it.
    """

    __slots__ = ("_source",)

    def __init__(self, source: str | Callable[[], str]) -> None:
        if isinstance(source, str):
            if not _PRINTABLE.fullmatch(source):
                raise ConfigError(
                    "a password must be one line of up to 10,000 characters without control "
                    "characters; was it read from a file with its line end?"
                )
        elif not callable(source):
            raise ConfigError(
                "a password must be text or a callable that returns it, not a "
                f"{type(source).__name__}"
            )
        self._source = source

    def reveal(self) -> str:
        """Return the password; if it is a callable, call it."""
        return self._source if isinstance(self._source, str) else self._source()

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._source == other._source

    def __hash__(self) -> int:
        return hash(self._source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each step may take, in seconds (RFC 5321 section 4.5.3.2).

    Each is a deadline for the whole step; bytes that arrive in between do not extend it.

    Attributes:
        connect_s: Name resolution, TCP and TLS. Shorter than in the RFC, so that a relay that is
            down is noticed.
        command_s: The greeting, and the reply to each command.
        body_s: Each write of up to 256 KiB of the content.
        dot_s: The reply to the final dot. If it is too short, mails arrive twice.
        session_s: The life of a connection; no mail is started in its second half.

    Raises:
        ConfigError: One of them is not a positive number of seconds.
    """

    connect_s: float = 30.0
    command_s: float = 300.0
    body_s: float = 180.0
    dot_s: float = 600.0
    session_s: float = 3600.0

    def __post_init__(self) -> None:
        """Check that every timeout is positive and finite."""
        for step in fields(self):
            checks.seconds(getattr(self, step.name), f"the timeout {step.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """An SMTP or LMTP server that takes mail, or a dry run; usually made by `Relay.parse`.

    Attributes:
        name: What messages, logs and the command call it, 1 to 64 characters.
        scheme: ``smtp``, ``smtps`` (TLS from the start) or ``lmtp``; ``null``, ``file`` or
            ``console`` for a dry run.
        host: The host name or IP address; empty for a Unix socket and a dry run.
        port: The TCP port; in a URL by default 587 with a user name, 25 without, 465 for ``smtps``,
            24 for ``lmtp``.
        path: The path of a Unix socket (LMTP), or the folder of ``file://``.
        username: The user name for the login; None: no login.
        password: The password for the login.
        token: Returns an OAuth2 access token, and takes the place of ``password``. It is called at
            each login, and once more if the relay refuses the token.
        tls: Whether the connection is encrypted.
        min_tls: The lowest TLS version, ``1.2`` or ``1.3``.
        ca: A file of certificate authorities (PEM); None: those of the system.
        cert: A file with our client certificate (PEM).
        key: A file with the key of ``cert``, if it is not in the same file.
        auth: The only login mechanism to use; None: the best one that the relay announces.
        auth_over_clear: Send credentials without TLS, or to a relay with an unverified certificate.
        ehlo_name: How we introduce ourselves in EHLO; None: this machine's name.
        source_address: The local IP address to connect from; None: the system chooses.
        connections: The most connections at the same time, for each worker.
        rate: The most mails in a time; None: no limit.
        domain_rate: The same for each recipient domain.
        max_messages_per_connection: How many mails are sent on one connection.
        pipelining: How much is written before a reply is read, if PIPELINING is announced.
        idle_s: How long an unused connection is kept, in seconds; below the 10 s of Amazon SES.
        timeouts: How long each step may take.

    Raises:
        ConfigError: A field has no valid value, or the fields contradict each other.
    """

    name: str
    scheme: str = "smtp"
    host: str = ""
    port: int = _RELAY_PORT
    path: str = ""
    username: str | None = None
    password: Secret | None = None
    token: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    tls: TlsMode = TlsMode.REQUIRED
    min_tls: str = "1.2"
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    auth: AuthMechanism | None = None
    auth_over_clear: bool = False
    ehlo_name: str | None = None
    source_address: str | None = None
    connections: int = 4
    rate: Rate | None = None
    domain_rate: Rate | None = None
    max_messages_per_connection: int = 1000
    pipelining: Pipelining = Pipelining.FULL
    idle_s: float = 9.0
    timeouts: Timeouts = field(default_factory=Timeouts)

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        name: str | None = None,
        password: str | Callable[[], str] | None = None,
        token: Callable[[], str] | None = None,
    ) -> Relay:
        """Read a relay URL such as ``smtp://user:password@host:587?tls=required&connections=4``.

        ``smtps://`` begins with TLS; ``lmtp://host`` and ``lmtp:///path/of/socket`` use LMTP;
        ``null://``, ``file:///path/of/folder`` and ``console://`` are dry runs.

        Args:
            url: The URL. User name and password are percent-encoded.
            name: The name of the relay; by default ``?name=``, or the host or path.
            password: The password, or a callable that returns it; it wins over the URL.
            token: Returns an OAuth2 access token.

        Raises:
            ConfigError: The URL cannot be read, or an option is unknown or does not fit.
        """
        parts = relay_url.split(url)
        is_dry_run = parts.scheme in relay_url.DRY_SCHEMES
        fields, timeouts = options.read(parts.options, is_dry_run=is_dry_run)
        secret = parts.password if password is None else password
        target = parts.host or parts.path or parts.scheme
        values = {
            "name": target[-_MAX_NAME:],
            "tls": TlsMode.OFF if parts.path or is_dry_run else TlsMode.REQUIRED,
            "port": _default_port(parts, has_login=parts.username is not None),
            **fields,
        }
        if name is not None:
            values["name"] = name
        return cls(
            scheme=parts.scheme,
            host=parts.host,
            path=parts.path,
            username=parts.username,
            password=None if secret is None else Secret(secret),
            token=token,
            timeouts=Timeouts(**timeouts),
            **values,
        )

    def __post_init__(self) -> None:
        """Check every field, and that they fit together."""
        self._check_text()
        self._check_types()
        if not 0 < len(self.name) <= _MAX_NAME:
            raise ConfigError(
                f"a relay's name must have 1 to {_MAX_NAME} characters, not "
                f"{shorten_repr(self.name)}; name it with ?name=…"
            )
        if self.scheme == "smtps" and self.tls is not TlsMode.REQUIRED:
            raise ConfigError(f"smtps:// needs tls=required, not tls={self.tls}")
        if self.key and not self.cert:
            raise ConfigError("key= needs cert=, the certificate that the key belongs to")
        self._check_login()

    @property
    def is_lmtp(self) -> bool:
        """Return whether it is an LMTP server, with a final reply for each recipient (RFC 2033)."""
        return self.scheme == "lmtp"

    @property
    def is_dry_run(self) -> bool:
        """Return whether mail is discarded, written into files or shown, and not sent."""
        return self.scheme in relay_url.DRY_SCHEMES

    @property
    def has_login(self) -> bool:
        """Return whether there is a login."""
        return self.username is not None

    def _check_text(self) -> None:
        """Check every text but the password, which `Secret` checks."""
        checks.text(self.name, "a relay's name", longest=10_000, is_empty_fine=True)
        known = (*relay_url.SCHEMES, *relay_url.DRY_SCHEMES)
        if checks.text(self.scheme, "a relay's scheme") not in known:
            raise ConfigError(f"a relay's scheme must be one of {', '.join(known)}")
        checks.word(self.host, "a relay's host", is_empty_fine=True)
        checks.text(self.path, "a relay's path", longest=_MAX_PATH, is_empty_fine=True)
        for name in ("ca", "cert", "key"):
            if (path := getattr(self, name)) is not None:
                checks.text(path, f"the file {name}= of a relay", longest=_MAX_PATH)
        if self.username is not None:
            checks.text(self.username, "a relay's user name", longest=1000)
        for name, what in (("ehlo_name", "ehlo"), ("source_address", "source")):
            if (value := getattr(self, name)) is not None:
                checks.word(value, f"the option {what} of a relay")
        if self.min_tls not in ("1.2", "1.3"):
            raise ConfigError(f"min_tls must be 1.2 or 1.3, not {shorten_repr(self.min_tls)}")

    def _check_types(self) -> None:
        """Check every other field, and turn names into enum members."""
        object.__setattr__(self, "tls", checks.member(TlsMode, self.tls, "a relay's tls"))
        if self.auth is not None:
            auth = checks.member(AuthMechanism, self.auth, "a relay's auth")
            object.__setattr__(self, "auth", auth)
        pipelining = checks.member(Pipelining, self.pipelining, "a relay's pipelining")
        object.__setattr__(self, "pipelining", pipelining)
        password: Any = self.password
        if password is not None and not isinstance(password, Secret):
            object.__setattr__(self, "password", Secret(password))
        if self.token is not None and not callable(self.token):
            raise ConfigError("a relay's token must be a callable that returns one")
        checks.instance(bool, self.auth_over_clear, "auth_over_clear")
        checks.count(self.port, "a port", most=_MAX_PORT)
        checks.count(self.connections, "connections")
        checks.count(self.max_messages_per_connection, "max_messages_per_connection")
        checks.seconds(self.idle_s, "idle_s")
        checks.instance(Timeouts, self.timeouts, "a relay's timeouts")
        for name in ("rate", "domain_rate"):
            if (rate := getattr(self, name)) is not None:
                checks.instance(Rate, rate, f"a relay's {name}")

    def _check_login(self) -> None:
        if self.username is None:
            if self.password or self.token or self.auth:
                raise ConfigError(
                    f"the login at the relay {self.name} needs a user name; write it as "
                    "smtp://user@host"
                )
            return
        if self.password is None and self.token is None:
            raise ConfigError(
                f"the user name for the relay {self.name} needs a password or a token; write it as "
                "smtp://user:password@host"
            )
        if self.tls is not TlsMode.REQUIRED and not self.path and not self.auth_over_clear:
            raise ConfigError(
                f"the relay {self.name} gets credentials, so it needs tls=required, not "
                f"tls={self.tls}; auth_over_clear=yes sends them without protection"
            )


def _default_port(parts: relay_url.RelayUrl, *, has_login: bool) -> int:
    if parts.port is not None:
        return parts.port
    return _PORTS.get(parts.scheme, _SUBMISSION_PORT if has_login else _RELAY_PORT)
