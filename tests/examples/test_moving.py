"""The guides in `docs/moving`: what stands under "before" and "after" runs, and says the same."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from postroom import Outbox, RecipientState, configure_sqlite
from postroom.testing import Accepted, FaultyRelay
from tests.examples.shop_client import body_of, files_of, parsed
from tests.project.sources import ROOT

PAGES = sorted((ROOT / "docs" / "moving").glob("*.md"))


def code(page: str, which: str) -> str:
    """Return the block of ``page`` that is marked ``which``."""
    text = (ROOT / "docs" / "moving" / f"{page}.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"^```python {which}\n(.*?)^```", text, flags=re.M | re.S)
    return str(block)


def run(source: str, **names: Any) -> dict[str, Any]:
    """Run a block as a module of its own; return what it defines."""
    module = ModuleType("guide")
    module.__dict__.update(names)
    sys.modules["guide"] = module
    exec(compile(source, "guide", "exec"), module.__dict__)  # our own page
    return module.__dict__


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder with the templates that the guides name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "templates").mkdir()
    files = {
        "order.html": "<p>Thank you for order {{ order.id }}</p>",
        "order_confirmed.subject.txt": "Order {{ order_number }} is confirmed",
        "order_confirmed.html": "<p>Thank you for order {{ order_number }}</p>",
    }
    for name, content in files.items():
        (tmp_path / "templates" / name).write_text(content, encoding="utf-8")
    yield
    sys.modules.pop("guide", None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_guide_says_what_changes_and_what_to_watch(page: Path) -> None:
    headings = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    assert headings[:2] == ["Before", "After"]
    assert {"What gets safer", "What to watch"} <= set(headings)
    compile(code(page.stem, "before"), page.name, "exec")


@pytest.fixture
def flask_mail(monkeypatch: pytest.MonkeyPatch, relay: FaultyRelay, tmp_path: Path) -> None:
    """The settings of an application that uses Flask-Mail."""
    settings = {
        "FLASK_SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'shop.db'}",
        "FLASK_MAIL_SERVER": "127.0.0.1",
        "FLASK_MAIL_PORT": str(relay.port),
        "FLASK_MAIL_DEFAULT_SENDER": "shop@example.com",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("flask_mail")
@pytest.mark.parametrize("which", ["before", "after"])
def test_flask_mail_and_postroom_confirm_the_same_order(
    relay: FaultyRelay, tmp_path: Path, which: str
) -> None:
    guide = run(code("flask-mail", which), __file__=str(tmp_path / "guide.py"))
    app, db = guide["app"], guide["db"]
    with app.app_context():
        db.create_all()
        if which == "after":
            guide["mail"].outbox.create_tables()
    answer = app.test_client().post("/orders", data={"email": "ada@example.com"})
    assert answer.json == {"order": 1}
    with app.app_context():
        if which == "after":
            relay.wait_for(1)  # delivered from here, since there was a request
            guide["mail"].stop(app)
            guide["mail"].outbox.close()
        db.engine.dispose()
    (accepted,) = relay.accepted
    mail = parsed(accepted.content)
    assert accepted.recipients == ("ada@example.com",)
    assert mail["Subject"] == "Order 1 is confirmed"
    assert mail["From"] == "shop@example.com"
    assert "Thank you for order 1" in body_of(mail)
    assert files_of(mail) == {"terms.txt": b"Send it back within 30 days."}


@pytest.fixture
def celery(monkeypatch: pytest.MonkeyPatch, relay: FaultyRelay, tmp_path: Path) -> str:
    """The settings of an application that uses Celery; returns the database's URL."""
    database_url = f"sqlite:///{tmp_path / 'shop.db'}"
    settings = {
        "BROKER_URL": "memory://",
        "DATABASE_URL": database_url,
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(relay.port),
        "SMTP_URL": relay.url,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return database_url


class Base(DeclarativeBase):
    """The metadata of an application that moves."""


class Order(Base):
    __tablename__ = "orders"

    number: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str]


@pytest.fixture
def session(celery: str) -> Iterator[Session]:
    engine = create_engine(celery)
    configure_sqlite(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


def test_the_task_around_smtplib_sends_one_mail(relay: FaultyRelay, session: Session) -> None:
    guide = run(code("celery-smtplib", "before"))
    guide["app"].conf.task_always_eager = True
    guide["place_order"](session, Order(number="A-1001", email="ada@example.com"))
    (accepted,) = relay.accepted
    assert accepted.recipients == ("ada@example.com",)
    assert parsed(accepted.content)["Subject"] == "Order A-1001 is confirmed"


@pytest.fixture
def moved(session: Session) -> Iterator[dict[str, Any]]:
    """What the guide from Celery and smtplib ends with."""
    guide = run(code("celery-smtplib", "after"))
    guide["outbox"].create_tables()
    yield guide
    guide["outbox"].close()


def test_celery_s_workers_deliver_what_was_committed(
    relay: FaultyRelay, session: Session, moved: dict[str, Any]
) -> None:
    moved["place_order"](session, Order(number="A-1001", email="ada@example.com"))
    moved["app"].tasks["postroom.deliver"].apply(throw=True)
    (accepted,) = relay.accepted
    assert accepted.recipients == ("ada@example.com",)
    assert parsed(accepted.content)["Subject"] == "Order A-1001 is confirmed"


def test_the_old_name_with_its_new_body_sends_what_is_committed_only(
    relay: FaultyRelay, session: Session, moved: dict[str, Any]
) -> None:
    exec(code("celery-smtplib", "bridge"), moved)
    moved["send_email"](session, "ada@example.com", "Nothing came of it", "Sorry!")
    session.rollback()
    moved["send_email"](session, "ada@example.com", "Order A-1001 is confirmed", "Thank you!")
    session.commit()
    moved["app"].tasks["postroom.deliver"].apply(throw=True)
    (accepted,) = relay.accepted
    assert parsed(accepted.content)["Subject"] == "Order A-1001 is confirmed"


def test_the_queue_in_the_database_becomes_an_outbox(relay: FaultyRelay, tmp_path: Path) -> None:
    invoice = tmp_path / "A-1001.pdf"
    invoice.write_bytes(b"%PDF-1.4")
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    configure_sqlite(engine)
    delivering = Outbox(relay.url, engine=engine)
    delivering.create_tables()
    guide = run(code("database-queue", "after"))
    order = SimpleNamespace(
        order_number="A-1001", email="ada@example.com", invoice_path=invoice, confirm_at=None
    )
    with Session(engine) as session, session.begin():
        for _ in range(2):
            guide["confirm"](session, order)
    delivering.worker().run(until_empty=True)
    with Session(engine) as session:
        counts = delivering.stats(session)
        assert counts.by_state[RecipientState.ACCEPTED] == 1
    delivering.close()
    engine.dispose()
    (accepted,) = relay.accepted
    mail = parsed(accepted.content)
    assert mail["Subject"] == "Order A-1001 is confirmed"
    assert files_of(mail) == {"invoice.pdf": b"%PDF-1.4"}


@pytest.fixture
def fastapi(monkeypatch: pytest.MonkeyPatch, relay: FaultyRelay, tmp_path: Path) -> None:
    """The settings of an application that uses fastapi-mail."""
    settings = {
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}",
        "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": str(relay.port),
        "SMTP_URL": relay.url,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


async def ordered(guide: dict[str, Any], relay: FaultyRelay) -> Accepted:
    """Start the application, place an order, wait for its mail, and stop the application."""
    app = guide["app"]
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        answer = await client.post("/orders?email=ada@example.com")
        assert answer.json() == {"order": 1}
        (accepted,) = await asyncio.to_thread(relay.wait_for, 1)
    await guide["engine"].dispose()
    return accepted


@pytest.mark.usefixtures("fastapi")
@pytest.mark.parametrize("which", ["before", "after"])
def test_fastapi_mail_and_postroom_confirm_the_same_order(
    relay: FaultyRelay, tmp_path: Path, which: str
) -> None:
    guide = run(code("fastapi-mail", which))
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    guide["Base"].metadata.create_all(engine)
    engine.dispose()
    if which == "after":
        guide["outbox"].create_tables()
    accepted = asyncio.run(ordered(guide, relay))
    if which == "after":
        guide["outbox"].close()
    mail = parsed(accepted.content)
    assert accepted.recipients == ("ada@example.com",)
    assert mail["Subject"] == "Order 1 is confirmed"
    assert mail["From"].addresses[0].addr_spec == "shop@example.com"
    assert "Thank you for order 1" in body_of(mail)
