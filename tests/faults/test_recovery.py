"""One fault after the other under a steady load: mail arrives as fast as before, soon after each.

Workers keep to a rate, so that the usual throughput is a number and not the weather. The long form
(``make faults``) restarts PostgreSQL ten times, five of them as a crash.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session

from postroom import RecipientState, WorkerConfig
from tests.faults.fault_setup import CONNECTIONS, FaultSetup
from tests.faults.pace import Pace
from tests.faults.worker_group import WorkerGroup, worker_group
from tests.services.postgresql import Postgresql

WORKERS = 3
#: Of one worker.
RATE = 150
PROMISED_A_FAULT = WORKERS * (CONNECTIONS + WorkerConfig().max_uncommitted)
WITHIN_S = 30.0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_mail_is_as_fast_as_before_soon_after_each_fault(
    restartable: FaultSetup,
    own_postgres: Postgresql,
    full: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    setup = restartable
    setup.rate = f"{RATE}/s"
    receipt = setup.enqueue("mail", 90_000 if full else 20_000)
    took: dict[str, list[float]] = {}
    with worker_group(setup, WORKERS) as group:
        setup.wait_for_mails(RATE * WORKERS)
        pace = Pace(setup.arrived, over_s=4)
        for name, fault in _faults(setup, own_postgres, group, rounds=5 if full else 1):
            fault()
            took.setdefault(name, []).append(pace.recovery_s(WITHIN_S))
        # What is left would take its time at this rate, and shows nothing more.
        with Session(setup.engine) as session, session.begin():
            setup.outbox.cancel(session, receipt)
        group.end()
    copies, faults = setup.copies(), sum(map(len, took.values()))
    with Session(setup.engine) as session:
        recipients = setup.outbox.status(session, receipt).recipients
    accepted = {one.address for one in recipients if one.state == RecipientState.ACCEPTED}
    assert {one.state for one in recipients} == {RecipientState.ACCEPTED, RecipientState.CANCELLED}
    assert accepted <= set(copies)
    # The outcome of what a killed worker had just sent is unknown to the database, and to cancel.
    twice, unknown = copies.total() - len(copies), len(copies) - len(accepted)
    assert twice + unknown <= faults * PROMISED_A_FAULT
    with capsys.disabled():
        told = "; ".join(f"{name} {max(times):.1f} s" for name, times in took.items())
        sys.stdout.write(
            f"\nrecovery: {len(copies)} mails at {pace.usual:.0f}/s, {faults} faults; lost 0; "
            f"{twice} twice; 95 % again after, at the latest: {told}\n"
        )


def _faults(
    setup: FaultSetup, server: Postgresql, group: WorkerGroup, *, rounds: int
) -> list[tuple[str, Callable[[], object]]]:
    return [
        ("a worker killed", lambda: group.kill(0)),
        ("PostgreSQL restarted", lambda: server.restart("fast")),
        ("PostgreSQL crashed", lambda: server.restart("immediate")),
        ("backends terminated", lambda: server.terminate_backends(setup.engine.url)),
        ("a worker suspended for three leases", lambda: _suspend(setup, group)),
    ] * rounds


def _suspend(setup: FaultSetup, group: WorkerGroup) -> None:
    group.workers[1].send_signal(signal.SIGSTOP)
    time.sleep(3 * setup.lease_s)
    group.workers[1].send_signal(signal.SIGCONT)
