"""A worker killed with SIGKILL, again and again, in the midst of its work.

The relay keeps a log of its own, synced before each answer, and the database is asked only
afterwards: what the two say is compared.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from postroom import Message, OnDoubt, Outbox, Receipt, RecipientState, WorkerConfig
from postroom.testing.faulty_relay import FaultyRelay, read_journal
from tests.services.waiting import wait_for

CONNECTIONS = 4
MAILS = 2000
LEASE_S = 2
PROMISED_DUPLICATES = CONNECTIONS + WorkerConfig().max_unrecorded


@dataclass
class Site:
    """An application's outbox, its database, and a relay that remembers."""

    engine: Engine
    relay: FaultyRelay
    journal: Path
    outbox: Outbox

    def enqueue(self, name: str, mails: int, on_doubt: OnDoubt) -> Receipt:
        with Session(self.engine) as session, session.begin():
            return self.outbox.enqueue(
                session,
                Message(
                    sender="shop@example.com", subject=name, text="Hello.\n", on_doubt=on_doubt
                ),
                to=[f"{name}-{n}@example.com" for n in range(mails)],
            )

    def worker(self) -> subprocess.Popen[bytes]:
        url = self.engine.url.render_as_string(hide_password=False)
        relay = f"{self.relay.url}&connections={CONNECTIONS}"
        return subprocess.Popen(
            [sys.executable, "-m", "tests.faults.worker", url, relay, str(LEASE_S)],
            stderr=subprocess.DEVNULL,
        )

    def arrived(self) -> int:
        return len(self.relay.accepted)

    def copies(self) -> Counter[str]:
        return Counter(mail.recipients[0] for mail in read_journal(self.journal))

    def kill_after(self, mails: int) -> None:
        """Start a worker and kill it once the relay has so many more mails."""
        until = self.arrived() + mails
        with self.worker() as worker:
            wait_for(lambda: self.arrived() >= until, f"{until} mails", 120)
            worker.kill()

    def finish(self) -> None:
        """Let one worker do the rest."""
        with self.worker() as worker:
            assert worker.wait(120) == 0

    def states(self, receipt: Receipt) -> Counter[RecipientState]:
        with Session(self.engine) as session:
            status = self.outbox.status(session, receipt)
        return Counter(recipient.state for recipient in status.recipients)


@pytest.fixture
def site(engine: Engine, tmp_path: Path) -> Iterator[Site]:
    journal = tmp_path / "journal"
    with FaultyRelay(journal=journal) as relay:
        outbox = Outbox(relay.url, engine=engine)
        yield Site(engine, relay, journal, outbox)
        outbox.close()


@pytest.mark.timeout(1200)
def test_nothing_is_lost_and_few_come_twice_when_workers_are_killed(
    site: Site, full: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    luck = random.Random(2000)
    duplicates: list[int] = []
    for round_number in range(20 if full else 3):
        name = f"round{round_number}"
        receipt = site.enqueue(name, MAILS, OnDoubt.RESEND)
        site.kill_after(luck.randrange(50, MAILS - 200))
        site.finish()
        copies = site.copies()
        sent = [copies[f"{name}-{n}@example.com"] for n in range(MAILS)]
        assert 0 not in sent, "a mail was lost"
        assert site.states(receipt) == {RecipientState.ACCEPTED: MAILS}
        duplicates.append(sum(sent) - MAILS)
        assert duplicates[-1] <= PROMISED_DUPLICATES
    with capsys.disabled():
        sys.stdout.write(f"\n{site.engine.dialect.name}: {_histogram(duplicates)}\n")


@pytest.mark.timeout(300)
def test_held_doubt_never_comes_twice_when_a_worker_is_killed(site: Site) -> None:
    receipt = site.enqueue("held", 200, OnDoubt.HOLD)
    site.kill_after(100)
    site.finish()
    copies = site.copies()
    states = site.states(receipt)
    assert max(copies.values()) == 1
    assert set(states) <= {RecipientState.ACCEPTED, RecipientState.IN_DOUBT}
    assert states[RecipientState.IN_DOUBT] <= PROMISED_DUPLICATES
    assert len(copies) >= states[RecipientState.ACCEPTED]
    assert states.total() == 200


def _histogram(duplicates: list[int]) -> str:
    """Say how many mails came twice, and after how many of the kills it was that many."""
    tens = Counter(count // 10 * 10 for count in duplicates)
    counts = ", ".join(f"{low}-{low + 9} twice: {kills}x" for low, kills in sorted(tens.items()))
    return (
        f"{len(duplicates)} kills in {MAILS} mails each; lost 0; {counts} "
        f"(promised: at most {PROMISED_DUPLICATES})"
    )
