"""Splits a relay URL into its parts.

No error text contains a user name, a password or another secret of the URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

import idna

from postroom.errors import ConfigError

SCHEMES = ("smtp", "smtps", "lmtp")

#: Dry runs: mail is not sent; see ``smtp.dry_run``.
DRY_SCHEMES = ("null", "file", "console")

_EXAMPLE = "smtp://user:password@smtp.example.com:587?tls=required"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayUrl:
    """The parts of a relay URL, percent-decoded.

    Attributes:
        scheme: One of ``SCHEMES`` or ``DRY_SCHEMES``.
        host: The host in ASCII (IDNA), without brackets; empty if there is a path.
        port: The port; None if the URL has none.
        path: The path of a socket or folder; empty if there is a host.
        username: The user name; None if the URL has none.
        password: The password; None if the URL has none.
        options: The options of the query, by name.
    """

    scheme: str
    host: str
    port: int | None
    path: str
    username: str | None
    password: str | None = field(repr=False)
    options: Mapping[str, str]


def split(url: str) -> RelayUrl:
    """Return the parts of ``url``.

    Args:
        url: The relay URL.

    Raises:
        ConfigError: It is not a relay URL. The text shows none of its secrets.
    """
    _check_text(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _malformed(url) from None  # the original text may hold the password
    if parts.scheme not in (*SCHEMES, *DRY_SCHEMES):
        known = ", ".join(f"{scheme}://" for scheme in (*SCHEMES, *DRY_SCHEMES))
        raise ConfigError(
            f"a relay URL must begin with one of {known}, not with "
            f"{parts.scheme or 'none of them'}; write it like {_EXAMPLE}"
        )
    if parts.fragment or parts.netloc.count("@") > 1:
        raise _malformed(url)
    path = unquote(parts.path).rstrip("/")
    host = _ascii_host(parts.hostname or "")
    if parts.scheme in DRY_SCHEMES:
        _check_dry_run(parts.scheme, parts.netloc, path)
    elif bool(host) == bool(path) or (path and parts.scheme != "lmtp"):
        raise _malformed(url)
    return RelayUrl(
        scheme=parts.scheme,
        host=host,
        port=port,
        path=path,
        username=_decoded(parts.username),
        password=_decoded(parts.password),
        options=_options(parts.query),
    )


def masked(url: str) -> str:
    """Return ``url`` without its user name, password and options, for error texts.

    Args:
        url: Any text, also one that is not a URL.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "***"
    location = rest.rpartition("@")[2] if "@" in rest else rest
    host = location.partition("?")[0].partition("#")[0]
    return f"{scheme}://***@{host}" if "@" in rest else f"{scheme}://{host}"


def _malformed(url: str) -> ConfigError:
    return ConfigError(
        f"a relay URL must be like {_EXAMPLE}, or lmtp:///path/of/socket, not {masked(url)}; "
        "write @ : / ? # % in a user name or password as %40 %3A %2F %3F %23 %25"
    )


def _check_dry_run(scheme: str, host: str, path: str) -> None:
    correct = "file:///path/of/folder" if scheme == "file" else f"{scheme}://"
    if host or bool(path) != (scheme == "file"):
        raise ConfigError(f"write the dry run as {correct}, with nothing else after {scheme}://")


def _check_text(url: str) -> None:
    if not isinstance(url, str):
        raise ConfigError(f"a relay URL must be text, not {type(url).__name__}")
    # urlsplit silently drops CR, LF and tab; decoded ones would end up in SMTP commands.
    if not (url + unquote(url)).isprintable():
        raise ConfigError(
            "a relay URL must be printable text, but it contains a control character; was it read "
            "from a file with its line end?"
        )


def _ascii_host(host: str) -> str:
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ConfigError(f"a relay's host must be a domain, not {host!r}") from error


def _decoded(text: str | None) -> str | None:
    return None if text is None else unquote(text)


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ConfigError(
            "the options of a relay URL must be like ?tls=required&connections=4"
        ) from None
    options = dict(pairs)
    if len(options) < len(pairs):
        raise ConfigError("an option of the relay URL is given twice; each may be given once")
    return options
