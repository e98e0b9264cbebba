"""Scripts: a message is delivered while they wait; and what a fork must not share."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from postroom import (
    Message,
    OnDoubt,
    Outbox,
    Phase,
    RecipientState,
    UnknownMessage,
    WorkerConfig,
)
from postroom.testing import FaultyRelay, Misbehavior, ServerOptions

ADA, BOB = "ada@example.com", "bob@example.com"
HELLO = Message(subject="Hi", text="Hello\n")
QUICK = WorkerConfig(poll_interval_s=0.05)


@pytest.fixture
def outbox(engine: Engine, relay: FaultyRelay) -> Outbox:
    return Outbox(relay.url, engine=engine, sender="shop@example.com", worker=QUICK)


def test_a_script_gets_the_outcome_of_every_recipient(
    outbox: Outbox, session: Session, relay: FaultyRelay
) -> None:
    relay.on(Phase.RCPT, "550 5.1.1 no such user", address=BOB)
    receipt = outbox.enqueue(session, HELLO, to=[ADA, BOB])
    session.commit()
    status = outbox.deliver(session, receipt)
    assert {one.address: one.state for one in status.recipients} == {
        ADA: RecipientState.ACCEPTED,
        BOB: RecipientState.REJECTED,
    }
    assert status.recipients[1].reply_code == 550
    assert not session.in_transaction()
    outbox.close()


def test_what_is_not_committed_is_not_waited_for(outbox: Outbox, session: Session) -> None:
    receipt = outbox.enqueue(session, HELLO, to=[ADA])
    with pytest.raises(UnknownMessage, match=r"call session.commit\(\) before"):
        outbox.deliver(session, receipt)
    session.rollback()
    with pytest.raises(UnknownMessage, match="there is no message"):
        outbox.deliver(session, receipt)
    outbox.close()


def test_what_is_deferred_stays_for_the_next_worker(
    outbox: Outbox, session: Session, relay: FaultyRelay
) -> None:
    relay.on(Phase.RCPT, "451 4.7.1 greylisted", times=1)
    receipt = outbox.enqueue(session, HELLO, to=[ADA])
    session.commit()
    status = outbox.deliver(session, receipt, timeout_s=1.0)
    assert status.state is RecipientState.DEFERRED
    assert status.recipients[0].due_at is not None
    outbox.close()


def test_doubt_that_is_held_ends_the_wait(
    outbox: Outbox, session: Session, relay: FaultyRelay
) -> None:
    relay.on(Phase.DOT, Misbehavior.RESET, after_accepting=True)
    held = Message(subject="Hi", text="Hello\n", on_doubt=OnDoubt.HOLD)
    receipt = outbox.enqueue(session, held, to=[ADA])
    session.commit()
    assert outbox.deliver(session, receipt).state is RecipientState.IN_DOUBT
    outbox.close()


def test_a_worker_that_runs_already_goes_on(
    outbox: Outbox, session: Session, relay: FaultyRelay
) -> None:
    with outbox.running():
        first = outbox.enqueue(session, HELLO, to=[ADA])
        session.commit()
        assert outbox.deliver(session, first).state is RecipientState.ACCEPTED
        outbox.enqueue(session, HELLO, to=[BOB])
        session.commit()
        relay.wait_for(2)


def test_a_worker_that_was_started_goes_on_after_a_block_that_delivers(
    outbox: Outbox, session: Session, relay: FaultyRelay
) -> None:
    outbox.start()
    with outbox.running():
        pass
    outbox.enqueue(session, HELLO, to=[ADA])
    session.commit()
    relay.wait_for(1)
    outbox.stop()


#: Ends, without a word to the outbox, as soon as the first mail has gone.
HASTY = """
import faulthandler
import sys
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from postroom import Outbox, RecipientState

# Should it not end, it says where each of its threads is.
faulthandler.dump_traceback_later(90, exit=True)
url, relay, message_id = sys.argv[1:]
outbox = Outbox(relay, engine=create_engine(url))
outbox.start()
states = []
while RecipientState.ACCEPTED not in states:
    with Session(outbox.engine) as session:
        states = [one.state for one in outbox.status(session, int(message_id)).recipients]
"""


def test_a_process_that_ends_finishes_what_is_on_the_wire_and_gives_back_the_rest(
    engine: Engine, session: Session
) -> None:
    with FaultyRelay(ServerOptions(delay_s=0.05)) as relay:
        outbox = Outbox(relay.url, engine=engine, sender="shop@example.com")
        receipt = outbox.enqueue(session, HELLO, to=[f"r{n}@example.com" for n in range(200)])
        session.commit()
        url = engine.url.render_as_string(hide_password=False)
        hasty = [sys.executable, "-c", HASTY, url, relay.url, str(receipt.message_id)]
        assert subprocess.run(hasty, check=False).returncode == 0
        states = Counter(one.state for one in outbox.status(session, receipt).recipients)
        assert set(states) == {RecipientState.ACCEPTED, RecipientState.QUEUED}
        assert states[RecipientState.ACCEPTED] == len(relay.accepted)
        outbox.close()


def test_many_threads_may_ask_for_the_worker_and_get_one(
    outbox: Outbox, session: Session, relay: FaultyRelay
) -> None:
    receipts = [outbox.enqueue(session, HELLO, to=[ADA]) for _ in range(4)]
    session.commit()
    waiting = [
        threading.Thread(target=outbox.deliver, args=(session, receipt)) for receipt in receipts
    ]
    for thread in waiting:
        thread.start()
    outbox.start()
    for thread in waiting:
        thread.join()
    assert [one.name for one in threading.enumerate()].count("postroom-coordinator") == 1
    assert outbox.stop()
    assert "postroom-coordinator" not in [one.name for one in threading.enumerate()]
    assert len(relay.accepted) == 4


# Forking a process that has threads is what this is about.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_shares_neither_worker_nor_connections(
    outbox: Outbox, session: Session, relay: FaultyRelay
) -> None:
    with outbox.running():
        outbox.enqueue(session, HELLO, to=[ADA])
        session.commit()
        relay.wait_for(1)
        engine = outbox.engine
        pid = os.fork()
        if pid == 0:
            is_clean = outbox.engine is not engine and not outbox._in_process.is_running
            os._exit(0 if is_clean else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert outbox.engine is engine
        outbox.enqueue(session, HELLO, to=[BOB])
        session.commit()
        relay.wait_for(2)
