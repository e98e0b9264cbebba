"""Flask-Mail's settings, read as a relay: the same server, spoken to safely."""

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
    Address(text)
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


_NOBODY = SecretStr("null://")


def settings_of(app: Flask) -> Settings:
    """Return the settings of ``app``.

    Raises:
        ConfigError: one is unknown or does not fit.
    """
    refuse_unknown_variables(Settings.model_fields, app.config)
    settings = Settings.load(**_given(app.config))
    settings = settings.model_copy(
        update={
            "relay": _relay(app, settings),
            "sender": settings.sender or mail_sender(app.config),
        }
    )
    settings.routing()  # for its errors: now, and not with the first mail
    return settings


def variables(settings: Settings) -> dict[str, str]:
    """Return the environment that says what ``settings`` say, for the command's processes."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    return {
        PREFIX + name.upper(): _text(value) for name, value in values.items() if value is not None
    }


def _given(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``config`` sets; None and an empty text are as good as nothing."""
    return {
        name.removeprefix(PREFIX).lower(): value
        for name, value in config.items()
        if name.startswith(PREFIX) and value not in (None, "")
    }


def _relay(app: Flask, settings: Settings) -> Any:
    """Return where mail goes; where Flask-Mail would send nothing, nowhere."""
    is_suppressed = app.config.get("MAIL_SUPPRESS_SEND")
    if is_suppressed:
        return _NOBODY
    if settings.relay is not None:
        return settings.relay
    url = mail_relay(app.config)
    if url is not None and is_suppressed is None and app.testing:
        return _NOBODY
    return None if url is None else SecretStr(url)


def _text(value: Any) -> str:
    """Return a setting as a variable holds it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Mapping) and any(isinstance(one, SecretStr) for one in value.values()):
        return json.dumps({name: _text(one) for name, one in value.items()})
    if isinstance(value, Mapping):
        return ",".join(f"{name}={one}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return os.pathsep.join(map(str, value))
    return str(value)
