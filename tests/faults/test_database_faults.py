"""The database goes away under a worker, or the worker stands still: nothing is lost."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from sqlalchemy.orm import Session

from postroom import Message, RecipientState, WorkerConfig
from postroom.states import Phase
from tests.faults.fault_setup import CONNECTIONS, FaultSetup
from tests.services.postgresql import Postgresql
from tests.services.waiting import wait_for

MAILS = 1500
#: How far two workers' clocks are from each other.
APART = timedelta(minutes=10)
PROMISED_DUPLICATES = CONNECTIONS + WorkerConfig().max_uncommitted


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_database_that_is_restarted_loses_nothing(
    how: Literal["fast", "immediate"], restartable: FaultSetup, own_postgres: Postgresql
) -> None:
    setup = restartable
    setup.lease_s = 10
    receipt = setup.enqueue("mail", MAILS)
    with setup.worker() as worker:
        for portion in (300, 600, 900):
            setup.wait_for_mails(portion)
            own_postgres.restart(how)
        assert worker.wait(120) == 0
    assert setup.duplicates("mail", MAILS) <= PROMISED_DUPLICATES
    assert setup.states(receipt) == {RecipientState.ACCEPTED: MAILS}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_backends_that_are_terminated_lose_nothing(setup: FaultSetup, postgres: Postgresql) -> None:
    receipt = setup.enqueue("mail", MAILS)
    with setup.worker() as worker:
        for portion in (200, 500, 800, 1100):
            setup.wait_for_mails(portion)
            postgres.terminate_backends(setup.engine.url)
        assert worker.wait(120) == 0
    setup.engine.dispose()
    assert setup.duplicates("mail", MAILS) <= PROMISED_DUPLICATES
    assert setup.states(receipt) == {RecipientState.ACCEPTED: MAILS}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_worker_that_stood_still_past_its_leases_sends_nothing_that_others_have_sent(
    setup: FaultSetup,
) -> None:
    # Not on SQLite: whoever stands still in the midst of a commit holds the file's only lock.
    setup.lease_s = 1.0
    receipt = setup.enqueue("mail", MAILS)
    with setup.worker() as frozen, setup.worker() as other:
        setup.wait_for_mails(200)
        frozen.send_signal(signal.SIGSTOP)
        # Whatever the frozen one holds in an open transaction only it can let go of.
        setup.wait_for_mails(MAILS - 600)
        frozen.send_signal(signal.SIGCONT)
        assert other.wait(120) == 0
        assert frozen.wait(120) == 0
    assert setup.states(receipt) == {RecipientState.ACCEPTED: MAILS}
    assert setup.duplicates("mail", MAILS) <= PROMISED_DUPLICATES


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_workers_whose_clocks_are_ten_minutes_apart_agree_about_leases_and_due_times(
    setup: FaultSetup,
) -> None:
    """Only records carry a worker's own time: what is due, leased or expired the database says."""
    receipt = setup.enqueue("mail", MAILS)
    soon = Message(
        sender="shop@example.com",
        text="Hello.\n",
        expires_at=datetime.now(UTC) + APART / 2,
        retry_delays_s=[0.5],
    )
    with Session(setup.engine) as session, session.begin():
        expiring = setup.outbox.enqueue(session, soon, to=["soon@example.com"])
    setup.relay.on(Phase.RCPT, "451 4.7.1 later", address="soon@example.com", times=1)

    def recorded() -> list[datetime]:
        with Session(setup.engine) as session:
            return [one.updated_at for one in setup.outbox.status(session, receipt).recipients]

    off_s = APART.total_seconds() / 2
    # Slow enough that neither is done with all of it before the other begins.
    setup.rate = "300/s"
    with setup.worker(clock_off_s=off_s) as ahead, setup.worker(clock_off_s=-off_s) as behind:
        setup.wait_for_mails(MAILS // 3)
        later = datetime.now(UTC) + APART / 4
        wait_for(lambda: max(recorded()) > later, "an outcome of the worker whose clock is ahead")
        ahead.kill()
        assert behind.wait(120) == 0
    assert setup.duplicates("mail", MAILS) <= PROMISED_DUPLICATES
    assert setup.states(receipt) == {RecipientState.ACCEPTED: MAILS}
    assert setup.states(expiring) == {RecipientState.ACCEPTED: 1}
    assert max(recorded()) - min(recorded()) > APART * 0.9
