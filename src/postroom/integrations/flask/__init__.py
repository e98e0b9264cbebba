"""Flask: an outbox on the application's own session, settings, templates and commands."""

from __future__ import annotations

try:
    import flask  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "flask":
        raise
    raise ModuleNotFoundError(
        "postroom.integrations.flask needs its extra: pip install 'postroom[flask]'",
        name="flask",
    ) from None

from postroom.integrations.flask.extension import Postroom

__all__ = ["Postroom"]
