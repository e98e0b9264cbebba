"""``request``: what mailing somebody adds to the time of a web request."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from celery import Celery
from flask import Flask
from flask.testing import FlaskClient
from flask_mail import Mail
from flask_mail import Message as FlaskMessage
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, insert
from sqlalchemy.orm import Session

from bench.harness import letters
from bench.harness.contest import Contender, Figures, Series, hold
from bench.harness.databases import Database, Servers
from bench.harness.options import Options
from bench.harness.outboxes import Opened, opened
from bench.harness.report import Bar, Report
from tests.services.postfix import SmtpSink
from tests.services.redis import Redis

NAME = "request"

#: Nothing is delivered here.
_NO_RELAY = "smtp://127.0.0.1:1?tls=off"

_ORDERS = Table(
    "placed_order",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("number", String),
)

_EXPLANATION = """\
A Flask application writes an order into PostgreSQL and commits; it mails one customer as well, in
one of three ways. Requests with and without the mail take turns, through Flask's test client;
*added* is the difference of their medians. *Postroom* enqueues in the order's transaction.
*Flask-Mail* sends to a relay on the same machine; no real one is as near. *Celery* calls `.delay()`
with a Redis on the same machine. Only Postroom's mail is gone with an order that is rolled back."""

#: Mails the customer of one order, withwithin the order's transaction.
Mailing = Callable[[Session, int], None]


def run(options: Options) -> Report:
    """Measure the three ways in turn."""
    count = options.size(full=1_000, short=200)
    with Servers() as servers:
        contenders = [
            Contender(
                name="Postroom, PostgreSQL",
                run=lambda: _measured(servers.postgresql, _postroom, count),
                is_ours=True,
            ),
            Contender(
                name="Flask-Mail, send()",
                run=lambda: _measured(servers.postgresql, _flask_mail, count),
                note="a connection for each mail, as send() does",
            ),
            Contender(
                name="Celery, .delay()",
                run=lambda: _measured(servers.postgresql, _celery, count),
                note="Redis without persistence; the mail is not sent yet",
            ),
        ]
        series = hold(contenders, options.rounds)
    return Report(
        name=NAME,
        title="what mailing adds to a request",
        explanation=_EXPLANATION,
        headline="added ms",
        parameters={"requests": count, "rounds": options.rounds},
        series=series,
        bars=_bars(series),
    )


def _bars(series: list[Series]) -> list[Bar]:
    ours = next(one for one in series if one.is_ours)
    return [Bar(what=f"{ours.name}: added ms", value=ours.median("added ms"), most=1)]


def _measured(
    database: Database, way: Callable[[Flask, Opened, ExitStack], Mailing], count: int
) -> Figures:
    with opened(database, _NO_RELAY) as outbox, ExitStack() as stack:
        _ORDERS.create(outbox.engine)
        app = Flask("bench")
        mailing = way(app, outbox, stack)
        client = _routed(app, outbox.engine, mailing)
        taken: dict[str, list[float]] = {"/order": [], "/order-and-mail": []}
        for number in range(count):
            for path, times in taken.items():
                times.append(_asked(client, f"{path}/{number}"))
    plain, mailed = map(statistics.median, taken.values())
    return {"added ms": mailed - plain, "request ms": plain}


def _routed(app: Flask, engine: Engine, mailing: Mailing) -> FlaskClient:
    @app.post("/order/<int:number>")
    def order(number: int) -> str:
        with Session(engine) as session:
            session.execute(insert(_ORDERS).values(number=f"A-{number}"))
            session.commit()
        return "placed"

    @app.post("/order-and-mail/<int:number>")
    def order_and_mail(number: int) -> str:
        with Session(engine) as session:
            session.execute(insert(_ORDERS).values(number=f"A-{number}"))
            mailing(session, number)
            session.commit()
        return "placed"

    return app.test_client()


def _asked(client: FlaskClient, path: str) -> float:
    """Return how many milliseconds a request took."""
    began = time.perf_counter()
    answer = client.post(path)
    taken_ms = (time.perf_counter() - began) * 1000
    assert answer.status_code == 200, answer.text
    return taken_ms


def _postroom(app: Flask, outbox: Opened, stack: ExitStack) -> Mailing:
    def enqueue(session: Session, number: int) -> None:
        outbox.outbox.enqueue(session, letters.message(), to=[letters.address(number)])

    return enqueue


def _flask_mail(app: Flask, outbox: Opened, stack: ExitStack) -> Mailing:
    sink = SmtpSink()
    stack.callback(sink.remove)
    app.config.update(MAIL_SERVER="127.0.0.1", MAIL_PORT=sink.port)
    mail = Mail(app)

    def send(session: Session, number: int) -> None:
        mail.send(
            FlaskMessage(
                letters.SUBJECT,
                sender=letters.SENDER,
                recipients=[letters.address(number)],
                body=letters.TEXT,
                html=letters.HTML,
            )
        )

    return send


def _celery(app: Flask, outbox: Opened, stack: ExitStack) -> Mailing:
    tasks = stack.enter_context(_tasks())

    @tasks.task(name="send_email", ignore_result=True)
    def send_email(to: str, subject: str, text: str, html: str) -> None:
        """Never runs: only the call is measured."""

    def delay(session: Session, number: int) -> None:
        send_email.delay(letters.address(number), letters.SUBJECT, letters.TEXT, letters.HTML)

    return delay


@contextmanager
def _tasks() -> Iterator[Celery]:
    redis = Redis()
    tasks = Celery("bench", broker=redis.url)
    try:
        yield tasks
    finally:
        tasks.close()
        redis.remove()
