"""A relay URL taken apart, without a secret in any error about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

import idna

from postroom.errors import ConfigError

SCHEMES = ("smtp", "smtps", "lmtp")

#: What only looks like a relay: mail ends on this machine, see ``smtp.dry_run``.
DRY_SCHEMES = ("null", "file", "console")

_EXAMPLE = "smtp://user:password@smtp.example.com:587?tls=required"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayUrl:
    """The parts of a relay URL, percent-decoded."""

    scheme: str
    host: str
    port: int | None
    path: str
    username: str | None
    password: str | None = field(repr=False)
    options: Mapping[str, str]


def split(url: str) -> RelayUrl:
    """Take ``url`` apart.

    Raises:
        ConfigError: it is not a relay URL; the text shows none of its secrets.
    """
    _refuse_controls(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _malformed(url) from None  # the original text may hold the password
    if parts.scheme not in (*SCHEMES, *DRY_SCHEMES):
        known = ", ".join(f"{scheme}://" for scheme in (*SCHEMES, *DRY_SCHEMES))
        raise ConfigError(
            f"expected a relay URL to begin with one of {known}, "
            f"got: {parts.scheme or 'none'}; write it like {_EXAMPLE}"
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
    """Return ``url`` without what may be its password."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "***"
    shown = rest.rpartition("@")[2] if "@" in rest else rest
    host = shown.partition("?")[0].partition("#")[0]
    return f"{scheme}://***@{host}" if "@" in rest else f"{scheme}://{host}"


def _malformed(url: str) -> ConfigError:
    return ConfigError(
        f"expected a relay URL to be like {_EXAMPLE}, or lmtp:///path/of/socket, got: "
        f"{masked(url)}; write @ : / ? # % in a user name or password as %40 %3A %2F %3F %23 %25"
    )


def _check_dry_run(scheme: str, place: str, path: str) -> None:
    wanted = "file:///path/of/folder" if scheme == "file" else f"{scheme}://"
    if place or bool(path) != (scheme == "file"):
        raise ConfigError(
            f"expected a dry run to be {wanted}, got: {scheme}:// with something else behind it"
        )


def _refuse_controls(url: str) -> None:
    if not isinstance(url, str):
        raise ConfigError(f"a relay URL must be text, not {type(url).__name__}")
    # urlsplit drops CR, LF and tab silently; decoded ones would travel into commands.
    if not (url + unquote(url)).isprintable():
        raise ConfigError(
            "expected a relay URL to be printable text, got: a control character in it; "
            "was it read from a file with its line end?"
        )


def _ascii_host(host: str) -> str:
    if host.isascii():
        return host
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ConfigError(f"expected a relay's host to be a domain, got: {host!r}") from error


def _decoded(text: str | None) -> str | None:
    return None if text is None else unquote(text)


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ConfigError(
            "expected the options of a relay URL to be like ?tls=required&connections=4, "
            "got: something else"
        ) from None
    options = dict(pairs)
    if len(options) < len(pairs):
        raise ConfigError("expected each option of a relay URL to be given once, got: one twice")
    return options
