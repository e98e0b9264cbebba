"""A small Flask application with an outbox, for tests and for the servers they start."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, abort
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from postroom import Message
from postroom.integrations.flask import Postroom

db = SQLAlchemy()
mail = Postroom()


class User(db.Model):  # type: ignore[name-defined, misc]
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    name: Mapped[str | None]


def create_app(**config: Any) -> Flask:
    """Return the application; settings come from ``FLASK_…`` variables, and from ``config``."""
    app = Flask(__name__)
    app.config["POSTROOM_SENDER"] = "shop@example.com"
    app.config.from_prefixed_env()
    app.config.update(config)
    db.init_app(app)
    mail.init_app(app, db, users=User)

    @app.post("/orders/<number>")
    def order(number: str) -> str:
        mail.enqueue(
            Message(subject=f"Order {number}", text="Thank you.\n"),
            to=[f"{number}@example.com"],
            idempotency_key=f"order:{number}",
        )
        db.session.commit()
        return str(os.getpid())

    @app.post("/failing-orders/<number>")
    def failing_order(number: str) -> str:
        mail.enqueue(Message(subject=f"Order {number}", text="-"), to=["nobody@example.com"])
        abort(409)

    @app.get("/")
    def index() -> str:
        return str(os.getpid())

    return app


def make_tables(app: Flask) -> None:
    """Create the application's tables, and the outbox's."""
    with app.app_context():
        db.create_all()
        mail.outbox.create_tables()
