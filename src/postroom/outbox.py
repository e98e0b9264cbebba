"""The outbox as an application holds it: mail in, answers out, and a worker where wanted.

A face: everything is done by the floors below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Unpack

from sqlalchemy import Engine

from postroom import checks
from postroom.clock import monotonic
from postroom.config.settings import Settings
from postroom.delivery.config import WorkerConfig
from postroom.delivery.in_process import InProcessWorker, deliver_and_wait
from postroom.delivery.scheduler import run_in_thread
from postroom.delivery.worker import Worker
from postroom.message.address import Address
from postroom.message.message import Message
from postroom.message.templates import Templates, TemplatesLike
from postroom.message.validation import parse_address
from postroom.relays.redis_store import RedisStore
from postroom.relays.routing import Relays, RoutingTable
from postroom.storage import actions, queries, schema
from postroom.storage.actions import CancelResult
from postroom.storage.engine import SessionOrConnection, read_transaction, worker_engine
from postroom.storage.enqueue import enqueue
from postroom.storage.enqueue_request import (
    MAX_MESSAGE_BYTES,
    CopiedLike,
    EnqueueRequest,
    OutboxDefaults,
    Receipt,
    RecipientArguments,
    RecipientsLike,
)
from postroom.storage.prune import Pruned, prune
from postroom.storage.queries import (
    Attempt,
    Explanation,
    MessageStatus,
    MessageSummary,
    OutboxStats,
    Search,
)
from postroom.storage.tables import Tables, tables
from postroom.storage.users import UserLookup
from postroom.typing import (
    AsyncEngineLike,
    AsyncSessionLike,
    UsersLike,
    sync_engine_of,
)


class Records:
    """The part of an outbox that answers and decides.

    Raises:
        UnknownMessage: by every call that names a message, where there is none of that id.
    """

    _tables: Tables
    _post: InProcessWorker

    def status(self, session: SessionOrConnection, message: int | Receipt) -> MessageStatus:
        """Return where a message and each of its recipients stand."""
        return queries.status(session, self._tables, id_of(message))

    def attempts(self, session: SessionOrConnection, message: int | Receipt) -> tuple[Attempt, ...]:
        """Return every attempt to deliver a message, oldest first."""
        return queries.attempts(session, self._tables, id_of(message))

    def explain(
        self, session: SessionOrConnection, message: int | Receipt
    ) -> tuple[Explanation, ...]:
        """Say for each recipient, in words, why its mail has not gone and when it will."""
        return queries.explain(session, self._tables, id_of(message))

    def search(self, session: SessionOrConnection, wanted: Search) -> tuple[MessageSummary, ...]:
        """Return messages that fit, newest first, a page at a time."""
        return queries.search(session, self._tables, wanted)

    def stats(self, session: SessionOrConnection) -> OutboxStats:
        """Return how many recipients are in which state, what is due, and who works."""
        return queries.stats(session, self._tables)

    def cancel(self, session: SessionOrConnection, message: int | Receipt) -> CancelResult:
        """Cancel a message for every recipient who is not being sent to already."""
        return actions.cancel(session, self._tables, id_of(message))

    def retry(
        self,
        session: SessionOrConnection,
        message: int | Receipt,
        addresses: Iterable[str] | None = None,
    ) -> tuple[str, ...]:
        """Send again what ended without being accepted, or is only due later; now, and afresh.

        Returns the addresses it will be sent to; ``addresses`` limits it to some.
        """
        again = actions.retry(session, self._tables, id_of(message), addresses)
        if again:
            self._post.wake_after_commit_of(session)
        return again

    def resolve(
        self,
        session: SessionOrConnection,
        message: int | Receipt,
        *,
        sent: bool,
        addresses: Iterable[str] | None = None,
    ) -> tuple[str, ...]:
        """Decide for recipients in doubt: they have it (``sent``), or it is sent again."""
        done = actions.resolve(
            session, self._tables, id_of(message), sent=sent, addresses=addresses
        )
        if done and not sent:
            self._post.wake_after_commit_of(session)
        return done

    def suppress(self, session: SessionOrConnection, address: str, reason: str) -> None:
        """Write to ``address`` no more, also where mail for it waits already.

        Raises:
            InvalidAddress: it is none.
        """
        actions.suppress(session, self._tables, address, reason)

    def unsuppress(self, session: SessionOrConnection, address: str) -> bool:
        """Write to ``address`` again; return whether it was suppressed."""
        return actions.unsuppress(session, self._tables, address)


def id_of(message: int | Receipt) -> int:
    """Return the id of the message that is meant."""
    return message.message_id if isinstance(message, Receipt) else message


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
        relay: Relays | RoutingTable | None = None,
        *,
        engine: Engine | AsyncEngineLike | None = None,
        users: UsersLike | None = None,
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
            checks.text(schema, "schema")
        checks.count(max_message_bytes, "max_message_bytes", most=2**40)
        self._schema = schema
        self._tables = tables(schema)
        config = worker or WorkerConfig()
        self._post = InProcessWorker(
            sync_engine_of(engine),
            self._tables,
            relay,
            config,
            redirect_all_to=_address(redirect_all_to),
            board=None if redis is None else RedisStore(redis, clock=monotonic, run=run_in_thread),
        )
        self._terms = OutboxDefaults(
            sender=_address(sender),
            templates=Templates.of(templates, inline_css=inline_css, budget=config.render_budget),
            users=None if users is None else UserLookup.of(users),
            max_message_bytes=max_message_bytes,
            notify=notify,
        )

    @classmethod
    def from_env(cls, *, users: UsersLike | None = None) -> Outbox:
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
        users: UsersLike | None = None,
        relay: Relays | RoutingTable | None = None,
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
        session: SessionOrConnection,
        message: Message,
        *,
        to: RecipientsLike = (),
        cc: CopiedLike = (),
        bcc: CopiedLike = (),
        user_ids: Iterable[Any] = (),
        idempotency_key: str | None = None,
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
            IdempotencyConflict: the key stands for other content.
            ConfigError: ``users`` are given and the outbox does not know where to look them up; or
                ``session`` has no transaction that the mail could be part of (it is in AUTOCOMMIT
                mode, or an engine).
        """
        order = EnqueueRequest(
            message=message,
            to=to,
            cc=cc,
            bcc=bcc,
            user_ids=user_ids,
            idempotency_key=idempotency_key,
        )
        receipt = enqueue(session, self._tables, order, self._terms)
        if receipt.is_new:
            self._post.wake_after_commit_of(session)
        return receipt

    async def aenqueue(
        self,
        session: AsyncSessionLike | Callable[[], AsyncSessionLike],
        message: Message,
        **addressing: Unpack[RecipientArguments],
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

    def check_schema(self) -> None:
        """Check that the tables are those of this version.

        Raises:
            SchemaError: they are missing, too old or too new; the text says what to run.
        """
        with read_transaction(self.engine) as connection:
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

    def worker(
        self, config: WorkerConfig | None = None, *, keep_connections: bool = False
    ) -> Worker:
        """Return a worker for this outbox, not yet at work.

        Breakers and rates are kept from one worker to the next in this process; connections
        to relays too with ``keep_connections``, until they are idle for too long.

        Raises:
            ConfigError: the outbox was made without an engine, or without a relay.
        """
        return self._post.worker(config, keep_connections=keep_connections)

    def add_wakeup(self, hint: Callable[[], None]) -> None:
        """Call ``hint`` after each commit of a session that has made mail due.

        It must not block: the commit has happened, and its caller waits. What it raises is logged.
        """
        self._post.add_wakeup(hint)

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

    def deliver(
        self, session: SessionOrConnection, message: int | Receipt, *, timeout_s: float = 60.0
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
        return deliver_and_wait(
            self._post, self._tables, session, id_of(message), timeout_s=timeout_s
        )

    def close(self) -> None:
        """Stop delivering, and close the outbox's own database connections."""
        self._post.close()


def _address(given: str | Address | None) -> Address | None:
    return None if given is None else parse_address(given)
