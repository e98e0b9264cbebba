"""Who is looking at a page."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from flask import abort, g, redirect, session, url_for
from flask.typing import ResponseReturnValue

from examples.shop.models import User, db

P = ParamSpec("P")
View = Callable[P, ResponseReturnValue]


def current_user_id() -> int | None:
    """Return the id of who has signed in; None for anybody else."""
    user_id: int | None = session.get("user_id")
    return user_id


def current_user() -> User | None:
    """Return who has signed in; None for anybody else."""
    if "user" not in g:
        user_id = current_user_id()
        g.user = None if user_id is None else db.session.get(User, user_id)
    user: User | None = g.user
    return user


def signed_in(view: View[P]) -> View[P]:
    """Show ``view`` to whoever has signed in."""

    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
        if current_user() is None:
            return redirect(url_for("accounts.sign_in"))
        return view(*args, **kwargs)

    return guarded


def staff_only(view: View[P]) -> View[P]:
    """Show ``view`` to who works here; to anybody else it is not there."""

    @signed_in
    @wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
        user = current_user()
        if user is None or not user.is_admin:
            abort(404)
        return view(*args, **kwargs)

    return guarded
