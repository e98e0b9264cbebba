"""An application's settings: those of Postroom, and Flask-Mail's as a relay and a sender."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote, urlencode

from flask import Flask
from pydantic import SecretStr

from postroom.config.settings import PREFIX, Settings
from postroom.config.sources import refuse_unknown_variables
from postroom.errors import ConfigError
from postroom.message.address import Address

_ESCAPED = re.compile(r'(["\\])')
_SMTP_PORT = 25
_SMTPS_PORT = 465

_NULL_RELAY = SecretStr("null://")


def settings_of(app: Flask) -> Settings:
    """Return the settings of ``app``.

    Raises:
        ConfigError: a setting is unknown or invalid.
    """
    refuse_unknown_variables(Settings.model_fields, app.config)
    settings = Settings.load(**_explicit_settings(app.config))
    settings = settings.model_copy(
        update={
            "relay": _relay(app, settings),
            "sender": settings.sender or mail_sender(app.config),
        }
    )
    settings.routing()  # raises errors now, and not with the first mail
    return settings


def variables(settings: Settings) -> dict[str, str]:
    """Return ``settings`` as environment variables, for the processes that the command starts."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    return {
        PREFIX + name.upper(): _as_variable(value)
        for name, value in values.items()
        if value is not None
    }


def _explicit_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``config`` sets; None and an empty text count as not set."""
    return {
        name.removeprefix(PREFIX).lower(): value
        for name, value in config.items()
        if name.startswith(PREFIX) and value not in (None, "")
    }


def _relay(app: Flask, settings: Settings) -> Any:
    """Return where mail goes; nowhere if Flask-Mail would send nothing."""
    is_suppressed = app.config.get("MAIL_SUPPRESS_SEND")
    if is_suppressed:
        return _NULL_RELAY
    if settings.relay is not None:
        return settings.relay
    url = mail_relay(app.config)
    if url is not None and is_suppressed is None and app.testing:
        return _NULL_RELAY
    return None if url is None else SecretStr(url)


def mail_relay(config: Mapping[str, Any]) -> str | None:
    """Return the relay of Flask-Mail's settings as a URL; None without MAIL_SERVER.

    Without TLS or SSL a password is sent to this machine only; for another one TLS is required.

    Args:
        config: The application's configuration.

    Raises:
        ConfigError: MAIL_PORT or MAIL_MAX_EMAILS is not a number.
    """
    host = config.get("MAIL_SERVER")
    if not host:
        return None
    login = _login(config)
    is_ssl = bool(config.get("MAIL_USE_SSL"))
    port = _number(config, "MAIL_PORT") or (_SMTPS_PORT if is_ssl else _SMTP_PORT)
    options = {} if is_ssl else _encryption(config, is_local=_is_local(host), has_login=bool(login))
    max_emails = _number(config, "MAIL_MAX_EMAILS")
    if max_emails:
        options["max_messages"] = str(max_emails)
    host_part = f"[{host}]" if ":" in host else host
    scheme = "smtps" if is_ssl else "smtp"
    return f"{scheme}://{login}{host_part}:{port}" + (f"?{urlencode(options)}" if options else "")


def mail_sender(config: Mapping[str, Any]) -> str | None:
    """Return MAIL_DEFAULT_SENDER, an address or a pair of name and address, as one text.

    Raises:
        InvalidAddress: it is not an address.
    """
    given = config.get("MAIL_DEFAULT_SENDER")
    if not given:
        return None
    name, address = ("", given) if isinstance(given, str) else given
    quoted = _ESCAPED.sub(r"\\\1", name or "")
    text = f'"{quoted}" <{address}>' if quoted else str(address)
    Address(text)
    return text


def _login(config: Mapping[str, Any]) -> str:
    """Return user name and password for the URL; Flask-Mail logs in if both are set."""
    username, password = config.get("MAIL_USERNAME"), config.get("MAIL_PASSWORD")
    return f"{_quoted(username)}:{_quoted(password)}@" if username and password else ""


def _quoted(text: str) -> str:
    # Brackets would end a route in the URL.
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
        raise ConfigError(f"{name} must be a number, not {given!r}") from None


def _as_variable(value: Any) -> str:
    """Return a setting as an environment variable holds it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Mapping) and any(isinstance(one, SecretStr) for one in value.values()):
        return json.dumps({name: _as_variable(one) for name, one in value.items()})
    if isinstance(value, Mapping):
        return ",".join(f"{name}={one}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return os.pathsep.join(map(str, value))
    return str(value)
