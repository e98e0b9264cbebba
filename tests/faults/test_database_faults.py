"""The database goes away under a worker, or the worker stands still: nothing is lost."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from sqlalchemy.orm import Session

from postroom import Message, RecipientState, WorkerConfig
from postroom.states import Phase
from tests.faults.site import CONNECTIONS, Site
from tests.services.postgresql import Postgresql
from tests.services.waiting import wait_for

MAILS = 1500
#: How far two workers' clocks are from each other.
APART = timedelta(minutes=10)
PROMISED_DUPLICATES = CONNECTIONS + WorkerConfig().max_uncommitted


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_database_that_is_restarted_loses_nothing(
    how: Literal["fast", "immediate"], site_to_restart: Site, own_postgres: Postgresql
) -> None:
    site = site_to_restart
    site.lease_s = 10
    receipt = site.enqueue("mail", MAILS)
    with site.worker() as worker:
        for portion in (300, 600, 900):
            site.wait_for_mails(portion)
            own_postgres.restart(how)
        assert worker.wait(120) == 0
    assert site.duplicates("mail", MAILS) <= PROMISED_DUPLICATES
    assert site.states(receipt) == {RecipientState.ACCEPTED: MAILS}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_backends_that_are_terminated_lose_nothing(site: Site, postgres: Postgresql) -> None:
    receipt = site.enqueue("mail", MAILS)
    with site.worker() as worker:
        for portion in (200, 500, 800, 1100):
            site.wait_for_mails(portion)
            postgres.terminate_backends(site.engine.url)
        assert worker.wait(120) == 0
    site.engine.dispose()
    assert site.duplicates("mail", MAILS) <= PROMISED_DUPLICATES
    assert site.states(receipt) == {RecipientState.ACCEPTED: MAILS}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_worker_that_stood_still_past_its_leases_sends_nothing_that_others_have_sent(
    site: Site,
) -> None:
    # Not on SQLite: whoever stands still in the midst of a commit holds the file's only lock.
    site.lease_s = 1.0
    receipt = site.enqueue("mail", MAILS)
    with site.worker() as frozen, site.worker() as other:
        site.wait_for_mails(200)
        frozen.send_signal(signal.SIGSTOP)
        # Whatever the frozen one holds in an open transaction only it can let go of.
        site.wait_for_mails(MAILS - 600)
        frozen.send_signal(signal.SIGCONT)
        assert other.wait(120) == 0
        assert frozen.wait(120) == 0
    assert site.states(receipt) == {RecipientState.ACCEPTED: MAILS}
    assert site.duplicates("mail", MAILS) <= PROMISED_DUPLICATES


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_workers_whose_clocks_are_ten_minutes_apart_agree_about_leases_and_due_times(
    site: Site,
) -> None:
    """Only records carry a worker's own time: what is due, leased or expired the database says."""
    receipt = site.enqueue("mail", MAILS)
    soon = Message(
        sender="shop@example.com",
        text="Hello.\n",
        expires_at=datetime.now(UTC) + APART / 2,
        retry_delays_s=[0.5],
    )
    with Session(site.engine) as session, session.begin():
        expiring = site.outbox.enqueue(session, soon, to=["soon@example.com"])
    site.relay.on(Phase.RCPT, "451 4.7.1 later", address="soon@example.com", times=1)

    def recorded() -> list[datetime]:
        with Session(site.engine) as session:
            return [one.updated_at for one in site.outbox.status(session, receipt).recipients]

    off_s = APART.total_seconds() / 2
    # Slow enough that neither is done with all of it before the other begins.
    site.rate = "300/s"
    with site.worker(clock_off_s=off_s) as ahead, site.worker(clock_off_s=-off_s) as behind:
        site.wait_for_mails(MAILS // 3)
        later = datetime.now(UTC) + APART / 4
        wait_for(lambda: max(recorded()) > later, "an outcome of the worker whose clock is ahead")
        ahead.kill()
        assert behind.wait(120) == 0
    assert site.duplicates("mail", MAILS) <= PROMISED_DUPLICATES
    assert site.states(receipt) == {RecipientState.ACCEPTED: MAILS}
    assert site.states(expiring) == {RecipientState.ACCEPTED: 1}
    assert max(recorded()) - min(recorded()) > APART * 0.9
