"""Forms that only our own pages can send: a secret of the session, in each of them."""

from __future__ import annotations

import hmac
import secrets

from flask import Flask, abort, request, session
from markupsafe import Markup

_FIELD = "csrf"


def init_app(app: Flask) -> None:
    """Check every form that is sent, and offer ``csrf_field()`` to templates."""
    app.before_request(_check)
    app.add_template_global(csrf_field)


def csrf_field() -> Markup:
    """Return the hidden field that every form with method POST begins with."""
    token = session.setdefault(_FIELD, secrets.token_urlsafe())
    return Markup('<input type="hidden" name="{}" value="{}">').format(_FIELD, token)


def _check() -> None:
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    expected, got = session.get(_FIELD, ""), request.form.get(_FIELD, "")
    if not expected or not hmac.compare_digest(expected.encode(), got.encode()):
        abort(400, "This form has expired. Go back, load the page again and send it once more.")
