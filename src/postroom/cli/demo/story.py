"""The demo's story: place an order, book parcels, deliver their mail and show the outcome."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from threading import Event

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from postroom import Outbox
from postroom.cli.database import settings_text
from postroom.cli.demo.inbox import GREYLISTED, MOVED, Inbox, listening
from postroom.cli.demo.shop import Base, CustomerOrder, User, book_parcels, place_order
from postroom.cli.output import echo, grid
from postroom.storage.engine import worker_engine

_FILES = Path(str(resources.files("postroom.cli.demo")))

_CUSTOMERS = {
    "ada@analytical.example": "Ada Lovelace",
    "grace@compiler.example": "Grace Hopper",
    MOVED: "Linus",
    GREYLISTED: "Greta",
}


def run_demo(*, keep: bool) -> None:
    """Place an order, book parcels, deliver the mail and show its outcome.

    Args:
        keep: Leave inbox and worker running until Ctrl-C.
    """
    folder = Path(tempfile.mkdtemp(prefix="postroom-demo-"))
    mails = folder / "inbox"
    mails.mkdir(mode=0o700)
    with listening(Inbox(folder=mails)) as port, _database(folder) as engine:
        relay = f"smtp://127.0.0.1:{port}?tls=off&name=inbox"
        outbox = Outbox(
            relay,
            engine=engine,
            users=select(User.id, User.email, User.username),
            sender="Pen & Ink <shop@penandink.example>",
            templates=_FILES / "templates",
        )
        outbox.create_tables()
        _do_business(engine, outbox)
        outbox.worker().run(until_empty=True)
        _show(engine, outbox)
        _write_settings(folder, relay, engine)
        _tell_where(folder, mails)
        if keep:
            _stay(outbox, port)
        outbox.close()


@contextmanager
def _database(folder: Path) -> Iterator[Engine]:
    engine = worker_engine(f"sqlite:///{folder / 'shop.db'}")
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def _do_business(engine: Engine, outbox: Outbox) -> None:
    with Session(engine) as session, session.begin():
        ada, grace, linus, greta = (
            User(email=email, username=name) for email, name in _CUSTOMERS.items()
        )
        session.add_all([ada, grace, linus, greta])
        for number, user in (("A-0998", grace), ("A-0999", linus), ("A-1000", greta)):
            session.add(CustomerOrder(order_number=number, user=user))
        session.flush()
        place_order(session, outbox, ada, "A-1001", also_to="Ada@Analytical.EXAMPLE")
        book_parcels(session, outbox, _FILES / "tracking.csv", receivers=[ada.id, grace.id])
    echo("An order was placed and a file of parcels booked; their mail is in the outbox.")


def _show(engine: Engine, outbox: Outbox) -> None:
    with Session(engine) as session:
        found = reversed(outbox.search(session))
        messages = [outbox.status(session, message.id) for message in found]
    rows = (
        (message.tags[0], one.address, one.state, one.attempt_count, one.reply)
        for message in messages
        for one in message.recipients
    )
    echo()
    echo(grid(["mail", "address", "state", ">attempt_count", "reply"], rows))


def _write_settings(folder: Path, relay: str, engine: Engine) -> None:
    """Write a settings file, so that every command can be tried on the demo's outbox."""
    url = engine.url.render_as_string(hide_password=False)
    chosen = {"database_url": url, "relay": relay, "sender": "shop@penandink.example"}
    (folder / "postroom.toml").write_text(settings_text(chosen), encoding="utf-8")


def _tell_where(folder: Path, mails: Path) -> None:
    echo()
    echo(f"{len(list(mails.iterdir()))} mails arrived, as files to open: {mails}")
    echo(f"To look closer: cd {folder}")
    echo("and there: postroom search, postroom status 3 --transcript, postroom preview 1 --open")


def _stay(outbox: Outbox, port: int) -> None:
    echo(f"The inbox listens on 127.0.0.1:{port} and a worker runs. Try, from that folder:")
    echo('  postroom send --to you@example.com --subject Hello --text "Is it there?"')
    echo("Ctrl-C ends both.")
    with outbox.running(), suppress(KeyboardInterrupt):
        Event().wait()
