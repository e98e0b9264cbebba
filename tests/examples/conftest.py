"""The shop on a database and a relay of its own, and people who visit it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import URL

from examples.shop import background, people
from examples.shop.app import create_app
from examples.shop.mail import postroom
from examples.shop.models import db
from postroom.testing import FaultyRelay
from tests.examples.shop_client import Shop


@pytest.fixture
def relay() -> Iterator[FaultyRelay]:
    with FaultyRelay() as relay:
        yield relay


@pytest.fixture
def shop(relay: FaultyRelay, database_url: URL) -> Iterator[Shop]:
    app = create_app(
        {
            "TESTING": True,
            "SECRET_KEY": "for tests",
            "SERVER_NAME": "shop.example",
            "SQLALCHEMY_DATABASE_URI": database_url,
            "POSTROOM_RELAY": relay.url,
        }
    )
    background.add_wakeup(app, lambda: None)  # tests say when: see `Shop.booked`
    with app.app_context():
        db.create_all()
        outbox = postroom.outbox
        outbox.create_tables()
        people.settle()
    yield Shop(app, relay)
    outbox.close()
    with app.app_context():
        db.engine.dispose()
