"""The extension: an outbox for each application that it is initialised with."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from sqlalchemy import Engine

from postroom.errors import ConfigError
from postroom.integrations.flask.config import variables
from postroom.integrations.flask.state import (
    EXTENSION,
    AppState,
    Database,
    ExtensionOptions,
    Sessions,
    state_of,
)
from postroom.integrations.flask.templates import folders_of
from postroom.message.message import Message
from postroom.outbox import Outbox
from postroom.relays.routing import Relays, RoutingTable
from postroom.storage.enqueue_request import ExplicitRecipients, Receipt, RecipientArguments
from postroom.typing import UsersLike

#: Packages of the extra ``cli`` that the command imports.
_BROUGHT_BY_EXTRA = {"rich", "typer"}


@click.command(
    "postroom",
    short_help="The outbox: deliver, look, decide.",
    # Every argument is for Postroom's own command, --help included.
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@with_appcontext
def postroom(arguments: Sequence[str]) -> None:
    """Run a command of Postroom with the application's settings and database."""
    try:
        from postroom.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in _BROUGHT_BY_EXTRA:
            raise
        raise click.ClickException(
            "the command needs its extra: pip install 'postroom[cli]'"
        ) from None
    state = state_of(current_app)
    settings = state.settings.model_copy(
        update={
            "database_url": state.outbox.engine.url.render_as_string(hide_password=False),
            "templates": folders_of(current_app, state.settings),
        }
    )
    # In the environment, because some commands start processes.
    os.environ.update(variables(settings))
    sys.exit(run(arguments))


class Postroom:
    """The outbox of the current application, on the session of the current request.

    One extension serves any number of applications. What `init_app` is given wins.

    Args:
        app: The application, given to `init_app` at once.
        db: Flask-SQLAlchemy's ``db``.
        outbox: An outbox of your own. Without it one is made of the application's settings
            (``POSTROOM_…``, or Flask-Mail's ``MAIL_…``), its templates and its database.
        engine: The database, where there is no ``db``.
        session: Where sessions come from, where there is no ``db``: a `scoped_session`, or a
            function that returns the current session.
        users: Where to look up ``user_ids``: a mapped class with an ``email``, or
            ``select(User.id, User.email)``.
        relay: For what no setting can say, such as a relay with a token callable.
        user_id: Returns the id of the user who is signed in; Flask-Login is asked where None.

    Raises:
        ConfigError: A setting is unknown or does not fit.
    """

    def __init__(
        self,
        app: Flask | None = None,
        db: Database | None = None,
        *,
        outbox: Outbox | None = None,
        engine: Engine | None = None,
        session: Sessions | None = None,
        users: UsersLike | None = None,
        relay: Relays | RoutingTable | None = None,
        user_id: Callable[[], Any] | None = None,
    ) -> None:
        self._options = ExtensionOptions(
            db=db,
            outbox=outbox,
            engine=engine,
            session=session,
            users=users,
            relay=relay,
            user_id=user_id,
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
        users: UsersLike | None = None,
    ) -> None:
        """Give ``app`` an outbox, and the commands ``flask postroom …``.

        Each process that serves ``app`` delivers from its first request on, unless the application
        is testing or the setting ``in_process_worker`` is off.

        Args:
            app: The application.
            db: Flask-SQLAlchemy's object.
            engine: The application's engine.
            session: A `scoped_session`, or a function that returns the current session.
            users: A mapped class with an ``email``, or ``select(User.id, User.email)``.

        Args:
            app: The application.
            db: Flask-SQLAlchemy's ``db``; see the class for this and what follows.
            engine: The database, where there is no ``db``.
            session: Where sessions come from, where there is no ``db``.
            users: Where to look up ``user_ids``.

        Raises:
            ConfigError: A setting is unknown or does not fit, or ``app`` has an outbox already.
        """
        if EXTENSION in app.extensions:
            raise ConfigError(
                f"the application {app.name} has an outbox already: call init_app once for each "
                "application"
            )
        options = ExtensionOptions(db=db, engine=engine, session=session, users=users)
        state = AppState(app, self._options.merged(options))
        app.extensions[EXTENSION] = state
        app.before_request(state.start_worker)
        app.cli.add_command(postroom)

    @property
    def outbox(self) -> Outbox:
        """The current application's outbox, for its other methods."""
        return _current().outbox

    def outbox_of(self, app: Flask) -> Outbox:
        """Return the outbox of ``app``, outside its context.

        Args:
            app: An application that was given to `init_app`.
        """
        return state_of(app).outbox

    def enqueue(
        self,
        message: Message,
        **addressing: Unpack[RecipientArguments],
    ) -> Receipt:
        """Enqueue ``message`` in the current session's transaction, like `Outbox.enqueue`.

        Never commits. Templates are the application's.

        Raises:
            MessageError: something cannot be sent; nothing was written.
            IdempotencyConflict: the key exists with other content.
        """
        state = _current()
        return state.outbox.enqueue(state.session, message, **addressing)

    def enqueue_to_current_user(
        self,
        message: Message,
        **others: Unpack[ExplicitRecipients],
    ) -> Receipt:
        """Enqueue ``message`` for the signed-in user, and for others if they are given.

        Raises:
            RecipientError: no user is signed in, or the user has no address.
            MessageError: something else cannot be sent; nothing was written.
            IdempotencyConflict: the key exists with other content.
        """
        user_ids = [_current().user_id()]
        return self.enqueue(message, user_ids=user_ids, **others)

    def start(self, app: Flask) -> None:
        """Deliver from this process without waiting for a request; for a server's hooks.

        Returns at once; if the database cannot be used yet, it is tried again. Ends with the
        process or with `stop`.

        Args:
            app: The application.
        """
        state_of(app).serving.start()

    def stop(self, app: Flask) -> None:
        """Finish the mail that is being sent, and deliver no more from this process.

        Args:
            app: The application.
        """
        state_of(app).serving.stop()


def _current() -> AppState:
    return state_of(current_app)
