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
from postroom.states import LaneLike, RecipientStateLike
from postroom.storage import actions, queries, schema
from postroom.storage.actions import CancelResult
from postroom.storage.database_url import shown_url
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
from postroom.storage.tables import tables
from postroom.storage.users import UserLookup
from postroom.typing import AsyncEngineLike, AsyncSessionLike, UsersLike, sync_engine_of


class Outbox:
    """Writes mail into the application's database, and delivers it from there.

    Args:
        relay: Where mail goes: a URL, ``failover(a b)``, ``roundrobin(a b)``, or several of them
            by name, of which the first is for messages that name none. A `RoutingTable` has rules
            for those. Needed only where this process delivers.
        engine: The application's engine, also an `AsyncEngine`. The outbox connects to the same
            database with connections of its own. Needed only where this process delivers, or
            makes or prunes tables.
        users: Where to look up ``user_ids``: a mapped class with an ``email`` attribute, or
            ``select(User.id, User.email)``, with the name as a third column.
        sender: The sender of messages that name none.
        templates: Where templates are: a folder, several, or a Jinja loader or environment.
        inline_css: Whether the CSS of HTML templates moves into the ``style`` of its elements.
        schema: The database schema of the tables; the connection's default where None.
        max_message_bytes: How large bodies and encoded attachments may be together. A larger
            message is refused at enqueue.
        worker: How a worker works. What templates may take to render holds at enqueue as well.
        notify: Whether to wake workers at once on PostgreSQL, with NOTIFY.
        redirect_all_to: For staging: every mail goes to this one address, with a header that
            names whom it was for.
        redis: The URL of a Redis through which workers share rates and circuit breakers.

    Raises:
        ConfigError: A relay's URL, the templates or the users cannot be read.
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
        self._in_process = InProcessWorker(
            sync_engine_of(engine),
            self._tables,
            relay,
            config,
            redirect_all_to=_address(redirect_all_to),
            redis=None if redis is None else RedisStore(redis, clock=monotonic, run=run_in_thread),
        )
        self._defaults = OutboxDefaults(
            sender=_address(sender),
            templates=Templates.of(templates, inline_css=inline_css, budget=config.render_budget),
            users=None if users is None else UserLookup.of(users),
            max_message_bytes=max_message_bytes,
            notify=notify,
        )

    @classmethod
    def from_env(cls, *, users: UsersLike | None = None) -> Outbox:
        """Return the outbox that ``POSTROOM_*`` variables or a ``postroom.toml`` describe.

        Args:
            users: Where to look up ``user_ids``; see the class.

        Raises:
            ConfigError: A setting is missing, unknown or wrong.
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
        """Return the outbox that ``settings`` describe.

        Args:
            settings: What `Settings.load` returns.
            users: Where to look up ``user_ids``; see the class.
            relay: Used instead of the settings' relays.
            engine: Used instead of the settings' database URL.
            templates: Used instead of the settings' folders.

        Raises:
            ConfigError: There is no database URL, or a value does not fit.
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

    def __repr__(self) -> str:
        """Return the relays' names and the database, without secrets."""
        routing, engine = self._in_process.routing, self._in_process.application
        relay = None if routing is None else ", ".join(route.name for route in routing.routes)
        database = None if engine is None else shown_url(engine.url)
        return f"Outbox(relay={relay!r}, database={database!r})"

    # -- mail in ----------------------------------------------------------------------------------

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
        existed. Recipients from all four sources are joined, and an address that appears twice
        gets one copy.

        Args:
            session: A `Session`, a `scoped_session` or a `Connection`.
            message: What to send, and how.
            to: One recipient or a list of them: ``str``, `Address` or `Recipient`. It may also
                be, or hold, a query such as ``select(User.email, User.name, User.points)``: the
                database writes the recipients itself, without a row passing through Python. The
                first column is the address, ``name`` is the display name, and all others are
                variables of the templates.
            cc: One or several who get a copy. The mail is then one for all: everyone in To and Cc
                sees the others.
            bcc: One or several who get that mail as well, without being seen.
            user_ids: Ids of users, looked up as ``Outbox(users=…)`` says.
            idempotency_key: Up to 255 characters that stand for this mail. Enqueued again with
                the same content, nothing is written and the first message's receipt is returned.

        Raises:
            MessageError: Something cannot be sent, and nothing was written. Subclasses say what.
            IdempotencyConflict: The key belongs to a message with other content.
            ConfigError: ``user_ids`` are given and the outbox has no ``users``; or ``session`` has
                no transaction that the mail could be part of (AUTOCOMMIT, or an engine).
        """
        request = EnqueueRequest(
            message=message,
            to=to,
            cc=cc,
            bcc=bcc,
            user_ids=user_ids,
            idempotency_key=idempotency_key,
        )
        receipt = enqueue(session, self._tables, request, self._defaults)
        if receipt.is_new:
            self._in_process.wake_after_commit_of(session)
        return receipt

    async def aenqueue(
        self,
        session: AsyncSessionLike | Callable[[], AsyncSessionLike],
        message: Message,
        **addressing: Unpack[RecipientArguments],
    ) -> Receipt:
        """Do what `enqueue` does, and raise what it raises, on an asynchronous session.

        Args:
            session: An `AsyncSession` or an `async_scoped_session`.
            message: What to send, and how.
            **addressing: ``to``, ``cc``, ``bcc``, ``user_ids`` and ``idempotency_key``, as for
                `enqueue`.
        """
        one = session() if callable(session) else session
        receipt: Receipt = await one.run_sync(
            lambda sync: self.enqueue(sync, message, **addressing)
        )
        return receipt

    # -- answers ----------------------------------------------------------------------------------

    def status(self, session: SessionOrConnection, message: int | Receipt) -> MessageStatus:
        """Return the state of a message and of each of its recipients.

        Args:
            session: Where to read; nothing is written.
            message: The message's id, or its receipt.

        Raises:
            UnknownMessage: There is no such message.
        """
        return queries.status(session, self._tables, _id_of(message))

    def attempts(self, session: SessionOrConnection, message: int | Receipt) -> tuple[Attempt, ...]:
        """Return every attempt to deliver a message, oldest first.

        Args:
            session: Where to read; nothing is written.
            message: The message's id, or its receipt.
        """
        return queries.attempts(session, self._tables, _id_of(message))

    def explain(
        self, session: SessionOrConnection, message: int | Receipt
    ) -> tuple[Explanation, ...]:
        """Say for each recipient why its mail has not been sent, and when it will be.

        Args:
            session: Where to read; nothing is written.
            message: The message's id, or its receipt.

        Raises:
            UnknownMessage: There is no such message.
        """
        return queries.explain(session, self._tables, _id_of(message))

    def search(
        self,
        session: SessionOrConnection,
        *,
        state: RecipientStateLike | None = None,
        address: str | None = None,
        tag: str | None = None,
        lane: LaneLike | None = None,
        idempotency_key: str | None = None,
        limit: int = 50,
        before_id: int | None = None,
    ) -> tuple[MessageSummary, ...]:
        """Return the messages that fit every condition given, newest first, one page of them.

        Args:
            session: Where to read; nothing is written.
            state: Only messages with a recipient in this state.
            address: Only messages to this address, in any spelling of it. With ``state`` as well,
                that recipient is the one in the state.
            tag: Only messages with this tag.
            lane: Only messages in this lane.
            idempotency_key: Only the message with this key.
            limit: The most messages to return.
            before_id: Only messages older than the one with this id: for the next page, the id
                of the last message of this one.

        Raises:
            MessageError: There is no such state or lane, or ``address`` is none.
        """
        wanted = Search(
            state=state,
            address=address,
            tag=tag,
            lane=lane,
            idempotency_key=idempotency_key,
            limit=limit,
            before_id=before_id,
        )
        return queries.search(session, self._tables, wanted)

    def stats(self, session: SessionOrConnection) -> OutboxStats:
        """Return how many recipients are in which state, what is due, and which workers run.

        Args:
            session: Where to read; nothing is written.
        """
        return queries.stats(session, self._tables)

    # -- actions ----------------------------------------------------------------------------------

    def cancel(self, session: SessionOrConnection, message: int | Receipt) -> CancelResult:
        """Cancel a message for every recipient that is not being sent to already.

        Args:
            session: Where to write; takes effect once the caller commits.
            message: The message's id, or its receipt.

        Raises:
            UnknownMessage: There is no such message.
        """
        return actions.cancel(session, self._tables, _id_of(message))

    def retry(
        self,
        session: SessionOrConnection,
        message: int | Receipt,
        addresses: Iterable[str] | None = None,
    ) -> tuple[str, ...]:
        """Send a message again, now, to recipients that were not accepted.

        It is for those rejected, deferred, cancelled, expired or suppressed; their retries begin
        afresh. A recipient that a relay accepted is never sent to again.

        Args:
            session: Where to write; takes effect once the caller commits.
            message: The message's id, or its receipt.
            addresses: Only these recipients; all of them where None.

        Returns:
            The addresses it will be sent to.

        Raises:
            UnknownMessage: There is no such message.
        """
        again = actions.retry(session, self._tables, _id_of(message), addresses)
        if again:
            self._in_process.wake_after_commit_of(session)
        return again

    def resolve(
        self,
        session: SessionOrConnection,
        message: int | Receipt,
        *,
        sent: bool,
        addresses: Iterable[str] | None = None,
    ) -> tuple[str, ...]:
        """Decide what happens to recipients in doubt.

        Args:
            session: Where to write; takes effect once the caller commits.
            message: The message's id, or its receipt.
            sent: True: the relay has the mail, they become ``accepted``. False: send it again.
            addresses: Only these recipients; all of them where None.

        Returns:
            The addresses that were in doubt and are no more.

        Raises:
            UnknownMessage: There is no such message.
        """
        done = actions.resolve(
            session, self._tables, _id_of(message), sent=sent, addresses=addresses
        )
        if done and not sent:
            self._in_process.wake_after_commit_of(session)
        return done

    def suppress(self, session: SessionOrConnection, address: str, reason: str) -> None:
        """Stop writing to ``address``, mail that waits for it included.

        Args:
            session: Where to write; takes effect once the caller commits.
            address: The address, in any spelling.
            reason: Why, for people who ask later.

        Raises:
            InvalidAddress: ``address`` is not an address.
        """
        actions.suppress(session, self._tables, address, reason)

    def unsuppress(self, session: SessionOrConnection, address: str) -> bool:
        """Write to ``address`` again, and return whether it was suppressed.

        Args:
            session: Where to write; takes effect once the caller commits.
            address: The address, in any spelling.
        """
        return actions.unsuppress(session, self._tables, address)

    # -- tables -----------------------------------------------------------------------------------

    def create_tables(self) -> None:
        """Create the tables where they are missing; see also ``postroom db upgrade``.

        Raises:
            SchemaError: There are tables of another version.
        """
        schema.create(self.engine, self._schema)

    def check_schema(self) -> None:
        """Check that the tables are those of this version.

        Raises:
            SchemaError: They are missing, too old or too new; the text says what to run.
        """
        with read_transaction(self.engine) as connection:
            schema.check(connection, self._tables)

    def prune(self, older_than: timedelta, *, batch: int = 1000) -> Pruned:
        """Delete old messages whose recipients are all final, in small transactions of its own.

        Args:
            older_than: How long ago the last recipient of a message became final, at least.
            batch: The most recipients that one transaction deletes, with their attempts.
        """
        return prune(self.engine, self._tables, older_than, batch=batch)

    @property
    def engine(self) -> Engine:
        """The outbox's own engine for its database, as a worker uses it.

        Raises:
            ConfigError: The outbox was made without an engine.
        """
        return self._in_process.engine

    # -- delivery ---------------------------------------------------------------------------------

    def worker(
        self, config: WorkerConfig | None = None, *, keep_connections: bool = False
    ) -> Worker:
        """Return a worker for this outbox, not yet started.

        Circuit breakers and rates are kept from one worker to the next in this process.

        Args:
            config: How it works, instead of what the outbox was made with.
            keep_connections: Whether it leaves its relay connections open for the next worker of
                this process, until they have been idle for too long.

        Raises:
            ConfigError: The outbox was made without an engine, or without a relay.
        """
        return self._in_process.worker(config, keep_connections=keep_connections)

    def add_wakeup(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after each commit of a session that has made mail due.

        Args:
            callback: What to call. It must not block: the commit has happened, and its caller
                waits. What it raises is logged.
        """
        self._in_process.add_wakeup(callback)

    def start(self) -> None:
        """Deliver from this process, in threads of its own, until `stop` or the process ends.

        Raises:
            ConfigError: There is no engine or no relay, or the database cannot be used.
        """
        self._in_process.start()

    def stop(self) -> bool:
        """Finish the mail that is being sent, and stop; return whether all was recorded."""
        return self._in_process.stop()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Deliver from this process within a ``with`` block.

        A worker that ran before goes on afterwards.

        Raises:
            ConfigError: There is no engine or no relay, or the database cannot be used.
        """
        with self._in_process.running():
            yield

    def deliver(
        self, session: SessionOrConnection, message: int | Receipt, *, timeout_s: float = 60.0
    ) -> MessageStatus:
        """Deliver from this process until nothing waits in a message, and return its status.

        For scripts. This process is a worker meanwhile, so other mail that is due goes out too. A
        worker that runs here already goes on afterwards.

        Args:
            session: The session that has committed the message. Nothing of the caller's is
                committed.
            message: The message's id, or its receipt.
            timeout_s: The most seconds to wait. What is deferred then stays in the outbox, for
                the next worker.

        Raises:
            UnknownMessage: There is no such message, or it is not committed; the text says which.
            ConfigError: There is no engine or no relay, or the database cannot be used.
        """
        return deliver_and_wait(
            self._in_process, self._tables, session, _id_of(message), timeout_s=timeout_s
        )

    def close(self) -> None:
        """Stop delivering, and close the outbox's own database connections."""
        self._in_process.close()


def _id_of(message: int | Receipt) -> int:
    return message.message_id if isinstance(message, Receipt) else message


def _address(given: str | Address | None) -> Address | None:
    return None if given is None else parse_address(given)
