"""What tests of faults share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from postroom import Outbox
from postroom.storage import schema
from postroom.testing.faulty_relay import FaultyRelay
from tests.faults.fault_setup import FaultSetup
from tests.services.postgresql import Postgresql


@pytest.fixture
def own_postgres() -> Iterator[Postgresql]:
    """A server to restart: the others' tests go on."""
    server = Postgresql()
    yield server
    server.remove()


@pytest.fixture
def restartable(own_postgres: Postgresql, tmp_path: Path) -> Iterator[FaultSetup]:
    """The same as ``setup``, on a server that may be restarted."""
    engine = create_engine(own_postgres.create_database(), pool_pre_ping=True)
    schema.create(engine)
    with _setup(engine, tmp_path / "journal") as setup:
        yield setup
    engine.dispose()


@pytest.fixture
def setup(engine: Engine, tmp_path: Path) -> Iterator[FaultSetup]:
    """An outbox with a relay whose log is on disk before it answers."""
    with _setup(engine, tmp_path / "journal") as setup:
        yield setup


@contextmanager
def _setup(engine: Engine, journal: Path) -> Iterator[FaultSetup]:
    with FaultyRelay(journal=journal) as relay:
        outbox = Outbox(relay.url, engine=engine)
        yield FaultSetup(engine, relay, journal, outbox)
        outbox.close()
