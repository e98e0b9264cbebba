"""The settings of a Flask application: its configuration over the environment.

``POSTROOM_…`` in ``app.config`` wins over the variable of that name, this over ``postroom.toml``,
and Flask-Mail's ``MAIL_…`` fills in what none of them says.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from flask import Flask
from pydantic import SecretStr

from postroom.integrations.flask.mail_settings import mail_relay, mail_sender
from postroom.settings import PREFIX, Settings
from postroom.settings_file import refuse_unknown_variables

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
