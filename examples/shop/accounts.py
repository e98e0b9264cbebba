"""Signing in without a password: by a token that is mailed, and good for a quarter of an hour."""

from __future__ import annotations

from flask import (
    Blueprint,
    current_app,
    flash,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue
from itsdangerous import BadSignature, URLSafeTimedSerializer
from sqlalchemy import func, select

from examples.shop import mail
from examples.shop.models import User, db

pages = Blueprint("accounts", __name__)


@pages.get("/sign-in")
def sign_in() -> ResponseReturnValue:
    """Ask for an address."""
    return render_template("sign_in.html")


@pages.post("/sign-in")
def send_token() -> ResponseReturnValue:
    """Mail a link to that address, if it is a customer's."""
    email = request.form.get("email", "").strip()
    user = db.session.scalar(select(User).where(func.lower(User.email) == email.lower()))
    if user is not None:
        mail.send_token(user, _tokens().dumps(user.id))
        db.session.commit()
    # The same answer for all: nobody learns here who is a customer.
    return render_template("sign_in_sent.html", email=email)


@pages.get("/sign-in/<token>")
def enter(token: str) -> ResponseReturnValue:
    """Sign in whoever got the mail."""
    try:
        user_id = _tokens().loads(token, max_age=int(mail.TOKEN_LIVES_FOR.total_seconds()))
    except BadSignature:
        flash("This link is too old, or not complete. Ask for a new one.")
        return redirect(url_for("accounts.sign_in"))
    session.clear()
    session["user_id"] = user_id
    return redirect(url_for("orders.index"))


@pages.post("/sign-out")
def sign_out() -> ResponseReturnValue:
    """Forget who it was."""
    session.clear()
    return redirect(url_for("orders.index"))


def _tokens() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(str(current_app.secret_key), salt="sign-in")
