"""The application: its parts put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask
from flask_wtf import CSRFProtect

from examples.shop import accounts, background, mail, orders, uploads, visitor
from examples.shop.models import db

_DEFAULTS = {
    "POSTROOM_SENDER": "Paper & Ink <shop@paperandink.example>",
    "MAX_CONTENT_LENGTH": 5_000_000,
    "SESSION_COOKIE_SAMESITE": "Lax",
}


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Return the shop. Settings come from ``FLASK_…`` variables, and from ``config`` over them."""
    app = Flask(__name__)
    app.config.from_mapping(_DEFAULTS)
    app.config.from_prefixed_env()
    app.config.update(config or {})
    db.init_app(app)
    mail.postroom.init_app(app, db)
    background.init_app(app)
    # Every form carries a token of the session, which a page from elsewhere does not know.
    CSRFProtect(app)
    for part in (accounts, orders, uploads):
        app.register_blueprint(part.pages)
    app.jinja_env.globals.update(
        current_user=visitor.current_user, is_moving=mail.is_moving, has_inbox=False
    )
    return app
