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
from tests.faults.fault_setup import CONNECTIONS, FaultSetup
from tests.faults.worker_group import worker_group

WORKERS = 3
PROMISED_A_KILL = CONNECTIONS + WorkerConfig().max_uncommitted


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_workers_killed_at_random_lose_nothing(
    setup: FaultSetup, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    mails, kills = (100_000, 100) if full else (6_000, 6)
    luck = random.Random(26)
    receipt = setup.enqueue("storm", mails)
    recovered: list[float] = []
    with worker_group(setup, WORKERS) as group:
        for kill in range(1, kills + 1):
            setup.wait_for_mails(mails * kill // (kills + 2))
            group.kill(luck.randrange(WORKERS))
            recovered.append(_recovery_s(setup))
        group.end()
    duplicates = setup.duplicates("storm", mails)
    assert setup.states(receipt) == {RecipientState.ACCEPTED: mails}
    assert duplicates <= kills * PROMISED_A_KILL
    assert max(recovered) < 30
    with capsys.disabled():
        copies = Counter(setup.copies().values())
        told = ", ".join(f"{count} mails {times}x" for times, count in sorted(copies.items()))
        sys.stdout.write(
            f"\nstorm: {kills} kills, {mails} mails, {WORKERS} workers; lost 0; {told}; "
            f"{duplicates / kills:.1f} twice a kill (promised: at most {PROMISED_A_KILL}); "
            f"mail went on after {max(recovered):.2f} s at the latest\n"
        )


def _recovery_s(setup: FaultSetup) -> float:
    """Return how long after a kill the next mails arrive."""
    began = time.monotonic()
    setup.wait_for_mails(setup.arrived() + 20)
    return time.monotonic() - began
