"""Flask-Mail's settings, read as a relay: the same server, spoken to safely."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlencode

from postroom.values.address import Address
from postroom.values.errors import ConfigError

_ESCAPED = re.compile(r'(["\\])')
_SMTP_PORT = 25
_SMTPS_PORT = 465


def mail_relay(config: Mapping[str, Any]) -> str | None:
    """Return the relay that ``MAIL_…`` settings describe as a URL; None without MAIL_SERVER.

    Without TLS or SSL a password travels only to this machine; to another one TLS is required.

    Raises:
        ConfigError: MAIL_PORT or MAIL_MAX_EMAILS is no number.
    """
    host = config.get("MAIL_SERVER")
    if not host:
        return None
    login = _login(config)
    is_ssl = bool(config.get("MAIL_USE_SSL"))
    port = _number(config, "MAIL_PORT") or (_SMTPS_PORT if is_ssl else _SMTP_PORT)
    options = {} if is_ssl else _encryption(config, is_local=_is_local(host), has_login=bool(login))
    most = _number(config, "MAIL_MAX_EMAILS")
    if most:
        options["max_messages"] = str(most)
    place = f"[{host}]" if ":" in host else host
    scheme = "smtps" if is_ssl else "smtp"
    return f"{scheme}://{login}{place}:{port}" + (f"?{urlencode(options)}" if options else "")


def mail_sender(config: Mapping[str, Any]) -> str | None:
    """Return MAIL_DEFAULT_SENDER, an address or a pair of name and address, as one text.

    Raises:
        InvalidAddress: it is none.
    """
    given = config.get("MAIL_DEFAULT_SENDER")
    if not given:
        return None
    name, address = ("", given) if isinstance(given, str) else given
    quoted = _ESCAPED.sub(r"\\\1", name or "")
    text = f'"{quoted}" <{address}>' if quoted else str(address)
    Address.parse(text)
    return text


def _login(config: Mapping[str, Any]) -> str:
    """Return user name and password as they stand in a URL; Flask-Mail logs in where both are."""
    username, password = config.get("MAIL_USERNAME"), config.get("MAIL_PASSWORD")
    return f"{_quoted(username)}:{_quoted(password)}@" if username and password else ""


def _quoted(text: str) -> str:
    # Brackets would end a route.
    return quote(text, safe="")


def _encryption(config: Mapping[str, Any], *, is_local: bool, has_login: bool) -> dict[str, str]:
    if config.get("MAIL_USE_TLS") or (has_login and not is_local):
        return {"tls": "required"}
    return {"tls": "opportunistic"} | ({"auth_over_clear": "yes"} if has_login else {})


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _number(config: Mapping[str, Any], name: str) -> int | None:
    given = config.get(name)
    try:
        return None if given in (None, "") else int(given)
    except (TypeError, ValueError):
        raise ConfigError(f"expected {name} to be a number, got: {given!r}") from None
