"""The outbox as an application holds it: mail in, answers out, and a worker where wanted.

A face: everything is done by the floors below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Unpack

from sqlalchemy import Engine

from postroom.delivery.clock import monotonic
from postroom.delivery.routing import Relays, Routing
from postroom.delivery.scheduler import run_in_thread
from postroom.delivery.worker import Worker
from postroom.post import Post
from postroom.records import Records, id_of
from postroom.settings import Settings
from postroom.smtp.blackboard import Blackboard
from postroom.storage import schema
from postroom.storage.engine import Executor, read, worker_engine
from postroom.storage.enqueue import enqueue
from postroom.storage.models import tables
from postroom.storage.order import (
    MAX_MESSAGE_BYTES,
    Addressing,
    Everyone,
    Order,
    Receipt,
    Someone,
    Terms,
)
from postroom.storage.people import People
from postroom.storage.prune import Pruned, prune
from postroom.storage.queries import MessageStatus
from postroom.values import settled
from postroom.values.address import Address
from postroom.values.checks import address_of
from postroom.values.config import WorkerConfig
from postroom.values.message import Message
from postroom.values.template import Templates, TemplatesLike
from postroom.waiting import deliver
from postroom.wiring import (
    AsyncEngineLike,
    AsyncSessionLike,
    Users,
    synchronous,
)


class Outbox(Records):
    """Writes mail into the application's database, and delivers it from there.

    ``relay`` is a URL, ``failover(a b)``, ``roundrobin(a b)``, or several of them by name of which
    the first is for messages that name none; `Routing` has rules for those.

    ``engine`` (also an `AsyncEngine`) is needed only where this process delivers as well;
    ``users`` where recipients are given by user id: a mapped class with an ``email`` attribute,
    or ``select(User.id, User.email)``. ``templates`` is a folder, several, or a Jinja loader or
    environment; ``worker`` says how a worker works, and what rendering may take here as well.
    ``notify`` wakes workers on PostgreSQL at once. With ``redirect_all_to`` every
    mail goes to that one address, with a header that names whom it was for: for staging. ``redis``
    is the URL of a Redis through which workers share the rates and breakers of relays.

    Raises:
        ConfigError: a relay's URL, the templates or the users cannot be made sense of.
        UnknownMessage: by every call that names a message, where there is none of that id.
    """

    def __init__(
        self,
        relay: Relays | Routing | None = None,
        *,
        engine: Engine | AsyncEngineLike | None = None,
        users: Users | None = None,
        sender: str | Address | None = None,
        templates: TemplatesLike | Templates | None = None,
        inline_css: bool = False,
        schema: str | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        worker: WorkerConfig | None = None,
        notify: bool = True,
        redirect_all_to: str | Address | None = None,
        redis: str | None = None,
    ) -> None:
        if schema is not None:
            settled.text(schema, "schema")
        settled.count(max_message_bytes, "max_message_bytes", most=2**40)
        self._schema = schema
        self._tables = tables(schema)
        config = worker or WorkerConfig()
        self._post = Post(
            synchronous(engine),
            self._tables,
            relay,
            config,
            redirect_all_to=_address(redirect_all_to),
            board=None if redis is None else Blackboard(redis, clock=monotonic, run=run_in_thread),
        )
        self._terms = Terms(
            sender=_address(sender),
            templates=Templates.of(templates, inline_css=inline_css, budget=config.render_budget),
            people=None if users is None else People.of(users),
            max_message_bytes=max_message_bytes,
            notify=notify,
        )

    @classmethod
    def from_env(cls, *, users: Users | None = None) -> Outbox:
        """Return the outbox that ``POSTROOM_*`` variables or a ``postroom.toml`` describe.

        Raises:
            ConfigError: a setting is missing, unknown or wrong.
        """
        return cls.from_settings(Settings.load(), users=users)

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        *,
        users: Users | None = None,
        relay: Relays | Routing | None = None,
        engine: Engine | AsyncEngineLike | None = None,
        templates: TemplatesLike | Templates | None = None,
    ) -> Outbox:
        """Return the outbox that ``settings`` describe; what is given beside them wins.

        Raises:
            ConfigError: there is no database URL, or a value does not fit.
        """
        return cls(
            relay or settings.routing(),
            engine=engine or worker_engine(settings.required_database_url()),
            users=users,
            sender=settings.sender,
            templates=templates or settings.templates or None,
            inline_css=settings.inline_css,
            schema=settings.database_schema,
            max_message_bytes=settings.max_message_bytes,
            worker=settings.worker_config(),
            notify=settings.notify,
            redirect_all_to=settings.redirect_all_to,
            redis=settings.redis_url.get_secret_value() if settings.redis_url else None,
        )

    def enqueue(
        self,
        session: Executor,
        message: Message,
        *,
        to: Everyone = (),
        cc: Iterable[Someone] = (),
        bcc: Iterable[Someone] = (),
        users: Iterable[Any] = (),
        key: str | None = None,
    ) -> Receipt:
        """Write ``message`` for its recipients, in the transaction that ``session`` is in.

        Never commits: once the caller does, the mail will go out; after a rollback it never
        existed. Recipients from all four sources are joined, an address reached twice gets one
        copy. ``cc`` and ``bcc`` make it one mail that everyone in To and Cc sees. The same
        ``key`` with the same content returns the receipt for the message that stands.

        ``to`` may be, or hold, a query: ``select(User.email, User.name, User.points)``. The
        database writes whom it finds, without a row passing through Python; the first column is
        the address, ``name`` the display name, and others become variables of the templates.

        Raises:
            MessageError: something cannot be sent; nothing was written. Subclasses say what.
            KeyConflict: the key stands for other content.
            ConfigError: ``users`` are given and the outbox does not know where to look them up; or
                ``session`` has no transaction that the mail could be part of (it is in AUTOCOMMIT
                mode, or an engine).
        """
        order = Order(message=message, to=to, cc=cc, bcc=bcc, users=users, key=key)
        receipt = enqueue(session, self._tables, order, self._terms)
        if receipt.is_new:
            self._post.hint_after_commit_of(session)
        return receipt

    async def aenqueue(
        self,
        session: AsyncSessionLike | Callable[[], AsyncSessionLike],
        message: Message,
        **addressing: Unpack[Addressing],
    ) -> Receipt:
        """Do what `enqueue` does, with an `AsyncSession` or an `async_scoped_session`.

        Raises what `enqueue` raises.
        """
        one = session() if callable(session) else session
        receipt: Receipt = await one.run_sync(
            lambda sync: self.enqueue(sync, message, **addressing)
        )
        return receipt

    def create_tables(self) -> None:
        """Create the tables where they are missing; see also ``postroom db upgrade``.

        Raises:
            SchemaError: tables of another version stand there.
        """
        schema.create(self.engine, self._schema)

    def check(self) -> None:
        """Check that the tables are those of this version.

        Raises:
            SchemaError: they are missing, too old or too new; the text says what to run.
        """
        with read(self.engine) as connection:
            schema.check(connection, self._tables)

    def prune(self, older_than: timedelta, *, batch: int = 1000) -> Pruned:
        """Delete what ended more than ``older_than`` ago, in small transactions of its own."""
        return prune(self.engine, self._tables, older_than, batch=batch)

    @property
    def engine(self) -> Engine:
        """The outbox's own engine for its database, as a worker uses it.

        Raises:
            ConfigError: the outbox was made without an engine.
        """
        return self._post.engine

    def worker(self, config: WorkerConfig | None = None, *, lingers: bool = False) -> Worker:
        """Return a worker for this outbox, not yet at work.

        Breakers and rates are kept from one worker to the next in this process; connections
        to relays too where the worker ``lingers``, until they are idle for too long.

        Raises:
            ConfigError: the outbox was made without an engine, or without a relay.
        """
        return self._post.worker(config, lingers=lingers)

    def hint_with(self, hint: Callable[[], None]) -> None:
        """Call ``hint`` after each commit of a session that has made mail due.

        It must not block: the commit has happened, and its caller waits. What it raises is logged.
        """
        self._post.hint_with(hint)

    def start(self) -> None:
        """Deliver from this process, in threads of its own, until `stop` or its orderly end.

        Raises:
            ConfigError: there is no engine or no relay, or the database cannot be used.
        """
        self._post.start()

    def stop(self) -> bool:
        """Finish what is on the wire and stop delivering; return whether all was recorded."""
        return self._post.stop()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Deliver from this process within a ``with`` block."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def deliver_now(
        self, session: Executor, message: int | Receipt, *, timeout_s: float = 60.0
    ) -> MessageStatus:
        """Deliver from this process until a message is settled, and return how it stands.

        For scripts. Call it after ``session`` has committed the message; it commits nothing of
        the caller's. Returns when no recipient waits for anything any more, or after
        ``timeout_s``: what was deferred stays in the outbox then, for the next worker. Meanwhile
        this process is a worker like any other, so that other mail that is due goes out as well;
        a worker that is at work here already just goes on.

        Raises:
            UnknownMessage: there is no such message, or it is not committed; the text says which.
            ConfigError: there is no engine or no relay, or the database cannot be used.
        """
        return deliver(self._post, self._tables, session, id_of(message), timeout_s=timeout_s)

    def close(self) -> None:
        """Stop delivering, and close the outbox's own database connections."""
        self._post.close()


def _address(given: str | Address | None) -> Address | None:
    return None if given is None else address_of(given)
