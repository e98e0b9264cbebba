"""FastAPI and Starlette: mail in the request's transaction, a worker for the lifespan."""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from postroom import ConfigError, Message, Outbox, RecipientState, SchemaError, Search
from postroom.integrations.fastapi import BoundOutbox, Postroom
from postroom.testing import FaultyRelay
from tests.integration.pages import typed, write_files

PAGE = "fastapi.md"
ADA = "ada@example.com"


@pytest.fixture(params=["sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg"])
def url(request: pytest.FixtureRequest) -> URL:
    """A database, by each driver that applications use."""
    found: URL = request.getfixturevalue(f"{request.param.partition('+')[0]}_url")
    return found.set(drivername=request.param)


@pytest.fixture
def shop(
    url: URL, relay: FaultyRelay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    """The page's application, its tables made and Ada in them."""
    write_files(PAGE, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTROOM_CONFIG", "")
    monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
    monkeypatch.setenv("RELAY", relay.url)
    spec = importlib.util.spec_from_file_location("shop", tmp_path / "shop.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["shop"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    engine = module.outbox.engine
    module.Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(module.User(id=1, email=ADA))
    yield module
    del sys.modules["shop"]
    module.outbox.close()


def client_of(shop: ModuleType) -> TestClient:
    """A client whose lifespan ends with the engine's connections closed, on the loop's thread."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with shop.postroom.lifespan(app):
            yield
        await shop.engine.dispose()

    shop.app.router.lifespan_context = lifespan
    return TestClient(shop.app)


def is_delivering() -> bool:
    return any(thread.name == "postroom-coordinator" for thread in threading.enumerate())


def test_mail_goes_with_the_transaction_of_the_request(
    shop: ModuleType, relay: FaultyRelay
) -> None:
    with client_of(shop) as client:
        message_id = client.post("/users/1/orders/A-1").json()
        assert client.post("/users/1/orders/X-2").status_code == 409
        (mail,) = relay.wait_for(1)
        assert mail.recipients == (ADA,)
        assert client.get(f"/mails/{message_id}").json().keys() == {ADA}
    assert not is_delivering()
    with Session(shop.outbox.engine) as session:
        (found,) = shop.outbox.search(session, Search())
        assert shop.outbox.status(session, found.id).state is RecipientState.ACCEPTED
    assert len(relay.accepted) == 1


def test_the_lifespan_begins_and_ends_the_worker(shop: ModuleType) -> None:
    with client_of(shop):
        assert is_delivering()
    assert not is_delivering()


def test_a_setting_leaves_delivery_to_others(
    shop: ModuleType, relay: FaultyRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTROOM_IN_PROCESS_WORKER", "false")
    with client_of(shop) as client:
        client.post("/users/1/orders/A-1")
        assert not is_delivering()
    shop.outbox.worker().drain()
    assert len(relay.accepted) == 1


def test_an_application_without_tables_does_not_start(sqlite_url: URL, relay: FaultyRelay) -> None:
    engine = create_engine(sqlite_url)
    outbox = Outbox(relay.url, engine=engine)
    app = FastAPI(lifespan=Postroom(outbox, worker=True).lifespan)
    with pytest.raises(SchemaError, match="expected Postroom's tables"), TestClient(app):
        pass
    outbox.close()
    engine.dispose()


def test_an_asynchronous_mail_can_be_cancelled(shop: ModuleType) -> None:
    async def enqueue_and_cancel() -> tuple[str, ...]:
        async with shop.sessions() as session:
            mail = shop.postroom.bind(session)
            receipt = await mail.enqueue(Message(subject="Hi", text="-"), to=[ADA])
            cancelled: tuple[str, ...] = (await mail.cancel(receipt)).cancelled
            await session.commit()
        await shop.engine.dispose()
        return cancelled

    assert anyio.run(enqueue_and_cancel) == (ADA,)


def test_endpoints_that_are_not_asynchronous_have_the_same(
    engine: Engine, relay: FaultyRelay
) -> None:
    def get_session() -> Iterator[Session]:
        with Session(engine) as session:
            yield session

    outbox = Outbox(relay.url, engine=engine, sender="shop@example.com")
    postroom = Postroom(outbox, get_session, worker=True)
    app = FastAPI(lifespan=postroom.lifespan)

    @app.post("/orders")
    def place_order(mail: BoundOutbox = Depends(postroom.dependency)) -> dict[str, str]:  # noqa: B008
        receipt = mail.enqueue(Message(subject="Hi", text="-"), to=[ADA])
        said = {one.address: str(one.state) for one in mail.status(receipt).recipients}
        dropped = mail.enqueue(Message(subject="Oh", text="-"), to=[ADA])
        assert mail.cancel(dropped).cancelled == (ADA,)
        assert isinstance(mail.session, Session)
        mail.session.commit()
        return said

    with TestClient(app) as client:
        assert client.post("/orders").json() == {ADA: "queued"}
        relay.wait_for(1)
    outbox.close()


def test_a_session_has_to_come_from_somewhere() -> None:
    with pytest.raises(ConfigError, match=r"Postroom\(outbox, get_session\)"):
        _ = Postroom(Outbox()).dependency


def test_the_lifespans_and_starlette_as_the_page_shows_them(
    shop: ModuleType, relay: FaultyRelay
) -> None:
    names: dict[str, Any] = vars(shop) | {"asynccontextmanager": asynccontextmanager}
    names |= {"Request": Request, "Response": Response, "Route": Route, "Starlette": Starlette}
    exec(typed(PAGE, "postroom.running()"), names)
    lifespan = names["lifespan"]
    exec(typed(PAGE, "Starlette("), names)
    app = names["app"]
    app.router.lifespan_context = lifespan
    with TestClient(app) as client:
        assert client.get("/").text == "Thank you!"
        relay.wait_for(1)
    assert not is_delivering()


def test_the_tables_are_the_applications(shop: ModuleType) -> None:
    with shop.outbox.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM postroom_message")) == 0
