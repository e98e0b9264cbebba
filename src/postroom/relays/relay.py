"""A relay: where it is, how to speak to it, and how hard to press it."""

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

#: NUL ends a field of AUTH PLAIN (RFC 4616 section 2), CR and LF end a line.
_PRINTABLE = re.compile("[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{0,10000}")


class Secret:
    """A password or token, masked in every text that could be printed or logged.

    It may be given as a callable, asked each time the secret is needed.

    Raises:
        ConfigError: it is neither, or holds what no login can carry; the text does not show it.
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
        """Return the secret itself."""
        return self._source if isinstance(self._source, str) else self._source()

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._source == other._source

    def __hash__(self) -> int:
        return hash(self._source)


#: What is recorded of a relay in each attempt.
_LONGEST_NAME = 64
_SUBMISSION_PORT = 587  # RFC 6409: where users log in
_RELAY_PORT = 25
_PORTS = {"smtps": 465, "lmtp": 24}
_HIGHEST_PORT = 65_535
_LONGEST_PATH = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each step may take, in seconds, from RFC 5321 section 4.5.3.2.

    Each is a deadline for the whole step, however busily the relay drips bytes meanwhile.
    """

    #: Name resolution, TCP and TLS; shorter than the RFC's, nobody waits five minutes to connect.
    connect_s: float = 30.0
    #: The reply to the greeting and to each command.
    command_s: float = 300.0
    #: Each write of up to 256 KiB of the body.
    body_s: float = 180.0
    #: The reply to the final dot: cut it short and the mail arrives twice.
    dot_s: float = 600.0
    #: A connection, with all its messages; none is begun in its second half.
    session_s: float = 3600.0

    def __post_init__(self) -> None:
        """Refuse deadlines that have passed before they begin, or that no clock knows."""
        for step in fields(self):
            checks.seconds(getattr(self, step.name), f"the timeout {step.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """An SMTP or LMTP server we hand mail to.

    ``path`` is a Unix socket's and stands instead of ``host``. ``token`` returns an OAuth2 access
    token; it is asked at each login, and once more where the relay says that the token expired.

    Raises:
        ConfigError: the parts do not fit together.
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
    #: ``1.2`` or ``1.3``.
    min_tls: str = "1.2"
    #: A file of certificate authorities, instead of the system's.
    ca: str | None = None
    #: The client certificate, and its key where that is in another file.
    cert: str | None = None
    key: str | None = None
    #: The only login mechanism to use; None: the best that the relay announces.
    auth: AuthMechanism | None = None
    #: Show credentials without TLS, or to a relay whose certificate was not verified.
    auth_over_clear: bool = False
    #: How we introduce ourselves; None: this machine's name.
    ehlo_name: str | None = None
    #: The local address to connect from.
    source_address: str | None = None
    connections: int = 4
    rate: Rate | None = None
    #: The same for each recipient domain.
    domain_rate: Rate | None = None
    max_messages_per_connection: int = 1000
    #: How much is written before a reply is read, where PIPELINING is announced.
    pipelining: Pipelining = Pipelining.FULL
    #: Idle connections are closed after this; below the 10 s that SES and others allow.
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
        """Read ``smtp://user:password@host:587?tls=required&connections=4``.

        ``smtps://`` speaks TLS from the start; ``lmtp://host`` and ``lmtp:///path/of/socket``
        speak LMTP. ``null://``, ``file:///path/of/folder`` and ``console://`` are dry runs. What
        is given beside the URL wins over it.

        Raises:
            ConfigError: the URL cannot be read, an option is unknown, or the parts do not fit.
        """
        parts = relay_url.split(url)
        is_dry_run = parts.scheme in relay_url.DRY_SCHEMES
        fields, timeouts = options.read(parts.options, is_dry_run=is_dry_run)
        secret = parts.password if password is None else password
        where = parts.host or parts.path or parts.scheme
        given = {
            "name": where[-_LONGEST_NAME:],
            "tls": TlsMode.OFF if parts.path or is_dry_run else TlsMode.REQUIRED,
            "port": _default_port(parts, has_login=parts.username is not None),
            **fields,
        }
        if name is not None:
            given["name"] = name
        return cls(
            scheme=parts.scheme,
            host=parts.host,
            path=parts.path,
            username=parts.username,
            password=None if secret is None else Secret(secret),
            token=token,
            timeouts=Timeouts(**timeouts),
            **given,
        )

    def __post_init__(self) -> None:
        """Refuse what could only fail later, would show a secret, or end a line on the wire."""
        self._check_text()
        self._check_kinds()
        if not 0 < len(self.name) <= _LONGEST_NAME:
            raise ConfigError(
                f"expected a relay's name to have 1 to {_LONGEST_NAME} characters, "
                f"got: {shorten_repr(self.name)}; name it with ?name=…"
            )
        if self.scheme == "smtps" and self.tls is not TlsMode.REQUIRED:
            raise ConfigError(f"expected smtps:// with tls=required, got: tls={self.tls}")
        if self.key and not self.cert:
            raise ConfigError("expected key= to come with cert=, got: key= alone")
        self._check_login()

    @property
    def is_lmtp(self) -> bool:
        """Return whether LMTP is spoken: a reply for each recipient (RFC 2033)."""
        return self.scheme == "lmtp"

    @property
    def is_dry_run(self) -> bool:
        """Return whether mail ends on this machine: discarded, in files, or shown."""
        return self.scheme in relay_url.DRY_SCHEMES

    @property
    def has_login(self) -> bool:
        """Return whether we log in."""
        return self.username is not None

    def _check_text(self) -> None:
        """Check every text but the password, which is checked where it becomes a secret."""
        checks.text(self.name, "a relay's name", longest=10_000, is_empty_fine=True)
        known = (*relay_url.SCHEMES, *relay_url.DRY_SCHEMES)
        if checks.text(self.scheme, "a relay's scheme") not in known:
            raise ConfigError(f"a relay's scheme must be one of {', '.join(known)}")
        checks.word(self.host, "a relay's host", is_empty_fine=True)
        checks.text(self.path, "a relay's path", longest=_LONGEST_PATH, is_empty_fine=True)
        for name in ("ca", "cert", "key"):
            if (path := getattr(self, name)) is not None:
                checks.text(path, f"the file {name}= of a relay", longest=_LONGEST_PATH)
        if self.username is not None:
            checks.text(self.username, "a relay's user name", longest=1000)
        for name, what in (("ehlo_name", "ehlo"), ("source_address", "source")):
            if (given := getattr(self, name)) is not None:
                checks.word(given, f"the option {what} of a relay")
        if self.min_tls not in ("1.2", "1.3"):
            raise ConfigError(f"min_tls must be 1.2 or 1.3, not {shorten_repr(self.min_tls)}")

    def _check_kinds(self) -> None:
        """Check what is no text, and take names for the members they name."""
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
        checks.count(self.port, "a port", most=_HIGHEST_PORT)
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
                    f"expected a user name for the relay {self.name}, got: none; "
                    "write it as smtp://user@host"
                )
            return
        if self.password is None and self.token is None:
            raise ConfigError(
                f"expected a password or a token for the relay {self.name}, got: none; "
                "write it as smtp://user:password@host"
            )
        if self.tls is not TlsMode.REQUIRED and not self.path and not self.auth_over_clear:
            raise ConfigError(
                f"expected tls=required where the relay {self.name} gets credentials, got: "
                f"tls={self.tls}; auth_over_clear=yes sends them unprotected all the same"
            )


def _default_port(parts: relay_url.RelayUrl, *, has_login: bool) -> int:
    if parts.port is not None:
        return parts.port
    return _PORTS.get(parts.scheme, _SUBMISSION_PORT if has_login else _RELAY_PORT)
