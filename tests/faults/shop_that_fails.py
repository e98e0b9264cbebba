"""The example shop, where every tenth order fails at the last moment: for gunicorn to serve."""

from __future__ import annotations

from itertools import count

from flask import Flask
from sqlalchemy import event

from examples.shop.app import create_app
from examples.shop.models import CustomerOrder, db

FAILS_EVERY = 10


class DiskFull(Exception):
    """What happens to every tenth order."""


def shop() -> Flask:
    app = create_app()
    orders = count(1)
    placed = "order was placed"

    @event.listens_for(CustomerOrder, "after_insert")
    def remember(*_: object) -> None:
        db.session.info[placed] = next(orders)

    with app.app_context():

        @event.listens_for(db.session, "before_commit")
        def fail(session: object) -> None:
            if db.session.info.pop(placed, 0) % FAILS_EVERY == FAILS_EVERY - 1:
                raise DiskFull

    return app
