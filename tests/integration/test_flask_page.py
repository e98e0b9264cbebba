"""The page on Flask: its application runs, its commands work, its migrations are made."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flask import Flask, g
from sqlalchemy import create_engine, inspect
from sqlalchemy.orm import scoped_session, sessionmaker

from postroom import Message, RecipientState
from postroom.integrations.flask import Postroom, config
from postroom.storage.tables import tables
from postroom.testing import FaultyRelay
from tests.integration.pages import run_lines, typed, write_files

PAGE = "flask.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relay: FaultyRelay) -> Path:
    """A folder with the files of the page, and a relay to deliver to."""
    write_files(PAGE, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTROOM_CONFIG", "")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/shop.db")
    monkeypatch.setenv("RELAY", relay.url)
    return tmp_path


@pytest.fixture
def shop(folder: Path) -> Iterator[ModuleType]:
    """The page's module."""
    spec = importlib.util.spec_from_file_location("shop", folder / "shop.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["shop"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["shop"]


@pytest.fixture
def app(shop: ModuleType) -> Iterator[Flask]:
    app = shop.create_app()
    with app.app_context():
        shop.db.create_all()
        shop.db.session.add(shop.User(email="ada@example.com"))
        shop.db.session.commit()
    yield app
    shop.mail.stop(app)
    shop.mail.outbox_of(app).close()
    with app.app_context():
        shop.db.engine.dispose()


def test_the_order_is_confirmed(app: Flask, relay: FaultyRelay) -> None:
    assert app.test_client().post("/orders/A-1").text == "Thank you!"
    (mail,) = relay.wait_for(1)
    assert mail.recipients == ("ada@example.com",)
    assert b"http://localhost/orders/A-1" in mail.content


def test_what_is_behind_the_outbox(
    app: Flask, shop: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"app": app, "db": shop.db, "mail": shop.mail, "Message": Message}
    exec(typed(PAGE, "Is it there?"), names)
    assert capsys.readouterr().out == "ada@example.com queued None\n"


def test_the_other_ways_to_make_it(shop: ModuleType, folder: Path) -> None:
    names: dict[str, Any] = {"Postroom": Postroom, "Flask": Flask, "User": shop.User, "g": g}
    names |= {"create_engine": create_engine, "scoped_session": scoped_session}
    exec(typed(PAGE, "lambda: g.user_id"), names)
    exec(typed(PAGE, "plain.db"), names | {"sessionmaker": sessionmaker})


def test_a_server_hook_begins_to_deliver(app: Flask, shop: ModuleType, folder: Path) -> None:
    hooks: dict[str, Any] = {}
    exec((folder / "gunicorn.conf.py").read_text(), hooks)
    with app.app_context():
        receipt = shop.mail.enqueue(Message(subject="Hi", text="-"), to=["ada@example.com"])
        shop.db.session.commit()
        hooks["post_worker_init"](type("Worker", (), {"wsgi": app}))
        status = shop.mail.outbox.deliver(shop.db.session, receipt)
    assert status.state is RecipientState.ACCEPTED


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_migrations_and_the_commands(folder: Path) -> None:
    run_lines(typed(PAGE, "db init"), folder)
    engine = create_engine(f"sqlite:///{folder}/shop.db")
    ours = {table.name for table in tables().metadata.tables.values()}
    assert ours < set(inspect(engine).get_table_names())
    engine.dispose()
    lines = typed(PAGE, "postroom search").replace("postroom status 1\n", "postroom stats\n")
    assert (
        "nothing in the outbox"
        in run_lines(lines.replace("worker", "worker --drain"), folder).lower()
    )


def test_the_two_lines_are_those_of_the_example(shop: ModuleType, folder: Path) -> None:
    for line in typed(PAGE, "from postroom.schema import add_tables").split("\n\n"):
        assert line.strip() in (folder / "shop.py").read_text()


def test_every_setting_of_flask_mails_is_in_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / PAGE).read_text(encoding="utf-8")
    source = Path(str(config.__file__)).read_text(encoding="utf-8")
    read = set(re.findall(r"\bMAIL_[A-Z_]+", source)) | {"MAIL_SUPPRESS_SEND"}
    assert {name for name in read if f"`{name}`" not in page} == set()
