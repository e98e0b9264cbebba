"""What belongs to one application: its settings, its outbox, its session."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib import import_module
from typing import Any, Protocol, TypeAlias

from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.orm import Session, scoped_session

from postroom.config.settings import Settings
from postroom.errors import ConfigError, RecipientError
from postroom.integrations.flask.config import settings_of
from postroom.integrations.flask.process_worker import ProcessWorker
from postroom.integrations.flask.templates import templates_of
from postroom.outbox import Outbox
from postroom.relays.routing import Relays, RoutingTable
from postroom.storage.engine import SessionOrConnection
from postroom.typing import UsersLike

EXTENSION = "postroom"

#: Where the current session comes from.
Sessions: TypeAlias = scoped_session[Session] | Callable[[], Session]


class Database(Protocol):
    """What is used of Flask-SQLAlchemy's ``db``."""

    @property
    def session(self) -> Any:
        """Its scoped session."""
        ...

    @property
    def engine(self) -> Engine:
        """The current application's default engine."""
        ...


@dataclass(frozen=True, kw_only=True)
class ExtensionOptions:
    """What an application passes to the extension; see `Postroom`."""

    db: Database | None = None
    outbox: Outbox | None = None
    engine: Engine | None = field(default=None, repr=False)  # its URL may hold a secret
    session: Sessions | None = None
    users: UsersLike | None = None
    relay: Relays | RoutingTable | None = None
    user_id: Callable[[], Any] | None = None

    def merged(self, later: ExtensionOptions) -> ExtensionOptions:
        """Return these options, overridden by those that ``later`` sets."""
        values = {one.name: getattr(later, one.name) for one in fields(later)}
        return replace(self, **{name: value for name, value in values.items() if value is not None})


class AppState:
    """An application's settings, and its outbox, which is created when it is first used.

    By then the application's models are complete.

    Args:
        app: The application.
        options: What was passed to the extension.

    Raises:
        ConfigError: a setting is unknown or invalid.
    """

    def __init__(self, app: Flask, options: ExtensionOptions) -> None:
        self._app = app
        self._options = options
        self._lock = threading.RLock()
        settings_of(app)  # raises errors now, and not with the first mail

    @cached_property
    def settings(self) -> Settings:
        """The settings, as they are when they are first used."""
        return settings_of(self._app)

    @property
    def outbox(self) -> Outbox:
        """The application's outbox."""
        with self._lock:
            return self._outbox

    @property
    def session(self) -> SessionOrConnection:
        """The current session.

        Raises:
            ConfigError: the application has not said where sessions come from.
        """
        db, session_source = self._options.db, self._options.session
        if session_source is None and db is None:
            raise ConfigError(
                "Postroom does not know the current session; pass Postroom(…, session=…) a "
                "scoped_session or a function that returns the session"
            )
        session: Any = db.session if session_source is None and db is not None else session_source
        return session if isinstance(session, scoped_session) else session()

    def user_id(self) -> Any:
        """Return the id of the signed-in user.

        Raises:
            RecipientError: no user is signed in.
        """
        user_id = (self._options.user_id or flask_login_user_id)()
        if user_id is None:
            raise RecipientError("no user is signed in")
        return user_id

    def start_worker(self) -> None:
        """Deliver from this process, unless the application is testing or has turned that off."""
        if self.settings.in_process_worker and not self._app.testing:
            self.serving.start()

    @cached_property
    def serving(self) -> ProcessWorker:
        """The worker of each process."""
        return ProcessWorker(self.outbox)

    @cached_property
    def _outbox(self) -> Outbox:
        if self._options.outbox is not None:
            return self._options.outbox
        is_suppressed = self._app.config.get("MAIL_SUPPRESS_SEND")
        return Outbox.from_settings(
            self.settings,
            users=self._options.users,
            relay=None if is_suppressed else self._options.relay,
            engine=self._engine(),
            templates=templates_of(self._app, self.settings),
        )

    def _engine(self) -> Engine:
        if self._options.engine is not None:
            return self._options.engine
        if self._options.db is None:
            raise ConfigError(
                "Postroom does not know the application's database; "
                "call Postroom.init_app(app, db), or pass it an engine"
            )
        with self._app.app_context():
            return self._options.db.engine


def state_of(app: Flask) -> AppState:
    """Return what belongs to ``app``.

    Raises:
        ConfigError: it was never passed to ``Postroom.init_app``.
    """
    state = app.extensions.get(EXTENSION)
    if state is None:
        raise ConfigError(
            f"the application {app.name} has no outbox; call Postroom.init_app(app, db)"
        )
    found: AppState = state
    return found


def flask_login_user_id() -> Any:
    """Return the id of Flask-Login's ``current_user``; None if no user is signed in.

    Raises:
        ConfigError: Flask-Login is not installed.
    """
    try:
        login = import_module("flask_login")
    except ModuleNotFoundError:
        raise ConfigError(
            "Postroom does not know who is signed in: Flask-Login is not installed; "
            "pass Postroom(…, user_id=…) a function that returns the user's id"
        ) from None
    get_id = getattr(login.current_user, "get_id", None)
    return None if get_id is None else get_id()
