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


def flask_login_user_id() -> Any:
    """Return the id of Flask-Login's ``current_user``; None where nobody is signed in.

    Raises:
        ConfigError: Flask-Login is not installed.
    """
    try:
        login = import_module("flask_login")
    except ModuleNotFoundError:
        raise ConfigError(
            "Postroom does not know who is signed in: install Flask-Login, or give "
            "Postroom(…, user_id=…) a function that returns the user's id"
        ) from None
    get_id = getattr(login.current_user, "get_id", None)
    return None if get_id is None else get_id()


EXTENSION = "postroom"

#: Where the current session comes from.
Sessions: TypeAlias = scoped_session[Session] | Callable[[], Session]


class Database(Protocol):
    """Flask-SQLAlchemy's ``db``, as far as it is used here."""

    @property
    def session(self) -> Any:
        """Return its scoped session."""
        ...

    @property
    def engine(self) -> Engine:
        """Return the current application's default engine."""
        ...


@dataclass(frozen=True, kw_only=True)
class ExtensionOptions:
    """What an application gives; see `Postroom`."""

    db: Database | None = None
    outbox: Outbox | None = None
    engine: Engine | None = field(default=None, repr=False)  # its URL may hold a secret
    session: Sessions | None = None
    users: UsersLike | None = None
    relay: Relays | RoutingTable | None = None
    user_id: Callable[[], Any] | None = None

    def merged(self, later: ExtensionOptions) -> ExtensionOptions:
        """Return the same, with what ``later`` gives in its place."""
        given = {one.name: getattr(later, one.name) for one in fields(later)}
        return replace(self, **{name: part for name, part in given.items() if part is not None})


class AppState:
    """An application's outbox, made when it is first asked for: its models are complete then.

    Raises:
        ConfigError: a setting is unknown or does not fit.
    """

    def __init__(self, app: Flask, parts: ExtensionOptions) -> None:
        self._app = app
        self._parts = parts
        self._lock = threading.RLock()
        settings_of(app)  # for its errors: now, and not with the first mail

    @cached_property
    def settings(self) -> Settings:
        """The settings, as they are when they are first needed."""
        return settings_of(self._app)

    @property
    def outbox(self) -> Outbox:
        """The application's outbox."""
        with self._lock:
            return self._outbox

    @property
    def session(self) -> SessionOrConnection:
        """The session of whoever asks.

        Raises:
            ConfigError: the application has not said where sessions come from.
        """
        db, given = self._parts.db, self._parts.session
        if given is None and db is None:
            raise ConfigError(
                "Postroom does not know the current session: give Postroom(…, session=…) a "
                "scoped_session, or a function that returns the session"
            )
        session: Any = db.session if given is None and db is not None else given
        return session if isinstance(session, scoped_session) else session()

    def user_id(self) -> Any:
        """Return the id of who is signed in.

        Raises:
            RecipientError: nobody is.
        """
        user_id = (self._parts.user_id or flask_login_user_id)()
        if user_id is None:
            raise RecipientError("nobody is signed in to write to")
        return user_id

    def start_worker(self) -> None:
        """Deliver from this process, where the application does so at all."""
        if self.settings.in_process_worker and not self._app.testing:
            self.serving.start()

    @cached_property
    def serving(self) -> ProcessWorker:
        """The worker of each process."""
        return ProcessWorker(self.outbox)

    @cached_property
    def _outbox(self) -> Outbox:
        if self._parts.outbox is not None:
            return self._parts.outbox
        is_suppressed = self._app.config.get("MAIL_SUPPRESS_SEND")
        return Outbox.from_settings(
            self.settings,
            users=self._parts.users,
            relay=None if is_suppressed else self._parts.relay,
            engine=self._engine(),
            templates=templates_of(self._app, self.settings),
        )

    def _engine(self) -> Engine:
        if self._parts.engine is not None:
            return self._parts.engine
        if self._parts.db is None:
            raise ConfigError(
                "Postroom does not know the application's database: call "
                "Postroom.init_app(app, db), or give it an engine"
            )
        with self._app.app_context():
            return self._parts.db.engine


def state_of(app: Flask) -> AppState:
    """Return what belongs to ``app``.

    Raises:
        ConfigError: it was never given to ``Postroom.init_app``.
    """
    state = app.extensions.get(EXTENSION)
    if state is None:
        raise ConfigError(
            f"the application {app.name} has no outbox: call Postroom.init_app(app, db)"
        )
    found: AppState = state
    return found
