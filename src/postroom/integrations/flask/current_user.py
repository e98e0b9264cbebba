"""Who is signed in, by Flask-Login where nothing else is said."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from postroom.values.errors import ConfigError


def flask_login_user_id() -> Any:
    """Return the id of Flask-Login's ``current_user``; None where nobody is signed in.

    Raises:
        ConfigError: Flask-Login is not installed.
    """
    try:
        login = import_module("flask_login")
    except ModuleNotFoundError:
        raise ConfigError(
            "expected to know who is signed in, got: neither user_id nor Flask-Login; "
            "give Postroom(…, user_id=…) a function that returns the user's id"
        ) from None
    get_id = getattr(login.current_user, "get_id", None)
    return None if get_id is None else get_id()
