"""The extension: an outbox for each application it is initialised with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from flask import Flask, current_app
from sqlalchemy import Engine

from postroom.delivery.routing import Relays, Routing
from postroom.integrations.flask import commands
from postroom.integrations.flask.state import (
    EXTENSION,
    Database,
    Parts,
    Sessions,
    State,
    state_of,
)
from postroom.outbox import Outbox
from postroom.storage.order import Addressing, Others, Receipt
from postroom.values.errors import ConfigError
from postroom.values.message import Message
from postroom.wiring import Users


class Postroom:
    """The outbox of the current application, on the session of the current request.

    ``db`` is Flask-SQLAlchemy's. Without it give an ``engine``, and a ``session`` to enqueue on: a
    `scoped_session`, or a function that returns the current session. ``users`` is a mapped class
    with an ``email``, or ``select(User.id, User.email)``. ``user_id`` returns the id of who is
    signed in; without it Flask-Login is asked. ``relay`` is for what no setting can say, such as
    a relay with a token callable; otherwise settings say it (`POSTROOM_…` or Flask-Mail's
    `MAIL_…`).

    One extension serves any number of applications. What `init_app` is given wins.

    Raises:
        ConfigError: a setting is unknown or does not fit.
    """

    def __init__(
        self,
        app: Flask | None = None,
        db: Database | None = None,
        *,
        engine: Engine | None = None,
        session: Sessions | None = None,
        users: Users | None = None,
        relay: Relays | Routing | None = None,
        user_id: Callable[[], Any] | None = None,
    ) -> None:
        self._parts = Parts(
            db=db, engine=engine, session=session, users=users, relay=relay, user_id=user_id
        )
        if app is not None:
            self.init_app(app)

    def init_app(
        self,
        app: Flask,
        db: Database | None = None,
        *,
        engine: Engine | None = None,
        session: Sessions | None = None,
        users: Users | None = None,
    ) -> None:
        """Give ``app`` an outbox, and the commands ``flask postroom …``.

        Each process that serves ``app`` delivers from its first request on, unless it is
        testing or the setting ``in_process_worker`` is off.

        Raises:
            ConfigError: a setting is unknown or does not fit, or ``app`` has an outbox already.
        """
        if EXTENSION in app.extensions:
            raise ConfigError(
                f"expected the application {app.name} to have no outbox yet, got: one; "
                "call init_app once for each application"
            )
        given = Parts(db=db, engine=engine, session=session, users=users)
        state = State(app, self._parts.joined(given))
        app.extensions[EXTENSION] = state
        app.before_request(state.begin)
        app.cli.add_command(commands.postroom)

    @property
    def outbox(self) -> Outbox:
        """The current application's outbox, for everything that is not said here."""
        return _current().outbox

    def outbox_of(self, app: Flask) -> Outbox:
        """Return the outbox of ``app``, outside its context."""
        return state_of(app).outbox

    def enqueue(
        self,
        message: Message,
        **addressing: Unpack[Addressing],
    ) -> Receipt:
        """Write ``message`` in the transaction of the current session; see `Outbox.enqueue`.

        Never commits. Templates are those of the application.

        Raises:
            MessageError: something cannot be sent; nothing was written.
            KeyConflict: the key stands for other content.
        """
        state = _current()
        return state.outbox.enqueue(state.session, message, **addressing)

    def enqueue_to_current_user(
        self,
        message: Message,
        **others: Unpack[Others],
    ) -> Receipt:
        """Write ``message`` to who is signed in, and to others where they are named.

        Raises:
            RecipientError: nobody is signed in, or the user has no address.
            MessageError: something else cannot be sent; nothing was written.
            KeyConflict: the key stands for other content.
        """
        users = [_current().user_id()]
        return self.enqueue(message, users=users, **others)

    def start(self, app: Flask) -> None:
        """Deliver from this process, without waiting for a request; for a server's hooks.

        Returns at once; a database that cannot be used yet is tried again. It ends with the
        process, or with `stop`.
        """
        state_of(app).serving.begin()

    def stop(self, app: Flask) -> None:
        """Finish what is on the wire, and deliver no more from this process."""
        state_of(app).serving.end()


def _current() -> State:
    return state_of(current_app)
