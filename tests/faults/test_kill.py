"""A worker killed with SIGKILL, again and again, in the midst of its work.

The relay keeps a log of its own, synced before each answer, and the database is asked only
afterwards: what the two say is compared. The long form (``make faults``) is 20 rounds of 2,000
mails each.
"""

from __future__ import annotations

import random
import sys
from collections import Counter

import pytest

from postroom import OnDoubt, RecipientState, WorkerConfig
from tests.faults.fault_setup import CONNECTIONS, FaultSetup

PROMISED_DUPLICATES = CONNECTIONS + WorkerConfig().max_uncommitted


@pytest.mark.timeout(1200)
def test_nothing_is_lost_and_few_come_twice_when_workers_are_killed(
    setup: FaultSetup, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    luck = random.Random(2000)
    duplicates: list[int] = []
    rounds, mails = (20, 2000) if full else (1, 500)
    for round_number in range(rounds):
        name = f"round{round_number}"
        receipt = setup.enqueue(name, mails)
        setup.kill_after(luck.randrange(50, mails - 200))
        setup.finish()
        duplicates.append(setup.duplicates(name, mails))
        assert setup.states(receipt) == {RecipientState.ACCEPTED: mails}
        assert duplicates[-1] <= PROMISED_DUPLICATES
    with capsys.disabled():
        sys.stdout.write(f"\n{setup.engine.dialect.name}: {_histogram(duplicates, mails)}\n")


@pytest.mark.timeout(300)
def test_held_doubt_never_comes_twice_when_a_worker_is_killed(setup: FaultSetup) -> None:
    receipt = setup.enqueue("held", 200, OnDoubt.HOLD)
    setup.kill_after(100)
    setup.finish()
    copies = setup.copies()
    states = setup.states(receipt)
    assert max(copies.values()) == 1
    assert set(states) <= {RecipientState.ACCEPTED, RecipientState.IN_DOUBT}
    assert states[RecipientState.IN_DOUBT] <= PROMISED_DUPLICATES
    assert len(copies) >= states[RecipientState.ACCEPTED]
    assert states.total() == 200


def _histogram(duplicates: list[int], mails: int) -> str:
    """Say how many mails came twice, and after how many of the kills it was that many."""
    tens = Counter(count // 10 * 10 for count in duplicates)
    counts = ", ".join(f"{low}-{low + 9} twice: {kills}x" for low, kills in sorted(tens.items()))
    return (
        f"{len(duplicates)} kills in {mails} mails each; lost 0; {counts} "
        f"(promised: at most {PROMISED_DUPLICATES})"
    )
