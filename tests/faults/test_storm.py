"""Several workers on PostgreSQL, killed at random while mail goes on being enqueued.

The long form (``make faults``) is 100 kills over 100,000 mails; the suite runs a short one.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter

import pytest

from postroom import RecipientState, WorkerConfig
from tests.faults.crew import crew
from tests.faults.site import CONNECTIONS, Site

WORKERS = 3
PROMISED_A_KILL = CONNECTIONS + WorkerConfig().max_uncommitted


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_workers_killed_at_random_lose_nothing(
    site: Site, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    mails, kills = (100_000, 100) if full else (6_000, 6)
    luck = random.Random(26)
    receipt = site.enqueue("storm", mails)
    recovered: list[float] = []
    with crew(site, WORKERS) as at_work:
        for kill in range(1, kills + 1):
            site.wait_for_mails(mails * kill // (kills + 2))
            at_work.kill(luck.randrange(WORKERS))
            recovered.append(_recovery_s(site))
        at_work.end()
    duplicates = site.duplicates("storm", mails)
    assert site.states(receipt) == {RecipientState.ACCEPTED: mails}
    assert duplicates <= kills * PROMISED_A_KILL
    assert max(recovered) < 30
    with capsys.disabled():
        copies = Counter(site.copies().values())
        told = ", ".join(f"{count} mails {times}x" for times, count in sorted(copies.items()))
        sys.stdout.write(
            f"\nstorm: {kills} kills, {mails} mails, {WORKERS} workers; lost 0; {told}; "
            f"{duplicates / kills:.1f} twice a kill (promised: at most {PROMISED_A_KILL}); "
            f"mail went on after {max(recovered):.2f} s at the latest\n"
        )


def _recovery_s(site: Site) -> float:
    """Return how long after a kill the next mails arrive."""
    began = time.monotonic()
    site.wait_for_mails(site.arrived() + 20)
    return time.monotonic() - began
