"""An application's outbox, its database, and a relay that remembers, for tests that break them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from postroom import Message, OnDoubt, Outbox, Receipt, RecipientState
from postroom.testing.faulty_relay import FaultyRelay, read_journal
from tests.services.waiting import wait_for

CONNECTIONS = 4


@dataclass
class FaultSetup:
    """Everything that a worker process needs, and what can be told of it afterwards."""

    engine: Engine
    relay: FaultyRelay
    journal: Path
    outbox: Outbox
    lease_s: float = 2.0
    #: What each worker keeps to, such as ``100/s``; empty for as fast as it can.
    rate: str = ""

    def enqueue(self, name: str, mails: int, on_doubt: OnDoubt = OnDoubt.RESEND) -> Receipt:
        """Commit one message to so many recipients."""
        with Session(self.engine) as session, session.begin():
            return self.outbox.enqueue(
                session,
                Message(
                    sender="shop@example.com", subject=name, text="Hello.\n", on_doubt=on_doubt
                ),
                to=[f"{name}-{n}@example.com" for n in range(mails)],
            )

    def worker(self, *, clock_off_s: float = 0) -> subprocess.Popen[bytes]:
        """Start a worker process, which ends when nothing is left; its clock may be wrong."""
        url = self.engine.url.render_as_string(hide_password=False)
        relay = f"{self.relay.url}&connections={CONNECTIONS}"
        relay += f"&rate={self.rate}" if self.rate else ""
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.faults.worker"),
                *(url, relay, str(self.lease_s), str(clock_off_s)),
            ],
            stderr=subprocess.DEVNULL,
        )

    def wait_for_mails(self, count: int) -> None:
        """Wait until the relay has accepted so many."""
        wait_for(lambda: self.arrived() >= count, f"{count} mails", 120)

    def kill_after(self, mails: int) -> None:
        """Start a worker and kill it once the relay has so many more mails."""
        until = self.arrived() + mails
        with self.worker() as worker:
            self.wait_for_mails(until)
            worker.kill()
        assert worker.returncode == -signal.SIGKILL, "it had ended before it was killed"

    def finish(self) -> None:
        """Let one worker do the rest."""
        with self.worker() as worker:
            assert worker.wait(120) == 0

    def arrived(self) -> int:
        """Return how many mails the relay has accepted."""
        return len(self.relay.accepted)

    def copies(self) -> Counter[str]:
        """Return how many copies the relay's own log has for each recipient."""
        return Counter(mail.recipients[0] for mail in read_journal(self.journal))

    def duplicates(self, name: str, mails: int) -> int:
        """Return how many mails came more than once; fail where one never came."""
        copies = self.copies()
        sent = [copies[f"{name}-{n}@example.com"] for n in range(mails)]
        assert 0 not in sent, f"lost: {sent.count(0)} of {mails}"
        return sum(sent) - mails

    def states(self, receipt: Receipt) -> Counter[RecipientState]:
        """Return how many recipients the database has in which state."""
        with Session(self.engine) as session:
            status = self.outbox.status(session, receipt)
        return Counter(recipient.state for recipient in status.recipients)
