"""What tests of faults share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from postroom import Outbox
from postroom.testing.faulty_relay import FaultyRelay
from tests.faults.site import Site


@pytest.fixture
def site(engine: Engine, tmp_path: Path) -> Iterator[Site]:
    """An outbox with a relay whose log is on disk before it answers."""
    journal = tmp_path / "journal"
    with FaultyRelay(journal=journal) as relay:
        outbox = Outbox(relay.url, engine=engine)
        yield Site(engine, relay, journal, outbox)
        outbox.close()
