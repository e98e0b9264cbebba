"""Celery's workers killed, its broker flushed and restarted, under load: nothing is lost.

The relay keeps a log of its own, synced before each answer.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import URL

from postroom.testing.faulty_relay import read_journal
from tests.integration.celery_shop import Shop, opened
from tests.services.redis import Redis
from tests.services.waiting import wait_for

CONNECTIONS = 2
MAX_UNRECORDED = 50
PROCESSES = 3


@pytest.fixture
def shop(
    monkeypatch: pytest.MonkeyPatch, redis_server: Redis, postgresql_url: URL, tmp_path: Path
) -> Iterator[Shop]:
    monkeypatch.chdir(tmp_path)
    with opened(monkeypatch, postgresql_url, redis_server, tmp_path / "journal") as shop:
        shop.set(
            shop_sweep_s="1",
            shop_budget_s="5",
            postroom_relay=f"{shop.relay.url}&connections={CONNECTIONS}&rate=500/s",
            postroom_lease_s="2",
            postroom_max_uncommitted=str(MAX_UNRECORDED),
        )
        yield shop


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nothing_is_lost_whatever_happens_to_workers_and_broker(
    shop: Shop, full: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    luck = random.Random(20)
    kills_wanted, mails = (100, 100_000) if full else (6, 4_000)
    kills = 0
    troubles: list[Callable[[], None]] = [shop.broker.flush, shop.broker.restart, lambda: None]

    def have_arrived(count: int) -> bool:
        shop.supervise()
        return len(shop.relay.accepted) >= count

    def is_done() -> bool:
        shop.supervise()
        return shop.is_done()

    with shop.workers("prefork", PROCESSES, beat=True):
        shop.order(mails)
        for step in range(kills_wanted):
            arrived = mails * (step + 1) // (kills_wanted + 2)
            wait_for(partial(have_arrived, arrived), f"{arrived} mails", 300)
            if victims := wait_for(shop.at_work, "somebody at work", 60):
                os.kill(luck.choice(sorted(victims)), signal.SIGKILL)
                kills += 1
            luck.choice(troubles)()
        wait_for(is_done, "every outcome", 600)
    copies = Counter(mail.recipients[0] for mail in read_journal(tmp_path / "journal"))
    twice = copies.total() - len(copies)
    with capsys.disabled():
        sys.stdout.write(
            f"\ncelery: {kills} kills in {mails} mails; lost {mails - len(copies)}; {twice} twice "
            f"(promised: at most {kills * (CONNECTIONS + MAX_UNRECORDED)})\n"
        )
    assert set(copies) == set(shop.addresses)
    assert twice <= kills * (CONNECTIONS + MAX_UNRECORDED)
