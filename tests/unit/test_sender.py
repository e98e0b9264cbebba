"""What a sender does with its jobs when it may not go on."""

from __future__ import annotations

from collections.abc import Iterable
from random import random

from postroom.delivery.batch import Batch
from postroom.delivery.clock import monotonic
from postroom.delivery.desk import Desk
from postroom.delivery.gate import Gate
from postroom.delivery.job import Job
from postroom.delivery.lines import Lines
from postroom.delivery.mail import Mail
from postroom.delivery.outlet import Outlet
from postroom.delivery.queue import JobQueue
from postroom.delivery.sender import Office, Sender
from postroom.delivery.verdict import Verdicts
from postroom.smtp.opening import Opening
from postroom.values.envelope import Envelope
from postroom.values.relay import Relay
from postroom.values.reply import Reply
from postroom.values.states import Lane
from tests.unit.claims import claim, stored_message


class Willing:
    """A connection to a relay that takes everything up to the dot."""

    transactions = 0
    takes_another = True
    is_usable = True
    transcript = ""

    def objection(self, envelope: Envelope) -> None: ...
    def start(self, envelope: Envelope) -> None: ...
    def send_body(self, chunks: Iterable[bytes]) -> None: ...
    def quit(self) -> None: ...
    def cut(self) -> None: ...
    def close(self) -> None:
        self.is_usable = False

    def opening(self) -> Opening:
        good = Reply(code=250)
        go_on = Reply(code=354)
        return Opening(mail=good, recipients=(good,), data=go_on, accepted=1, is_open=True)

    def finish(self, following: Envelope | None = None) -> tuple[Reply, ...]:
        raise AssertionError("expected no dot behind a closed gate")


def job(number: int, lease_s: float) -> Job:
    one = claim(number)
    batch = Batch([one], token=1, lease_s=lease_s, claimed_at=monotonic())
    return Job(mail=Mail(stored_message()), claims=(one,), batch=batch)


def test_a_lease_that_runs_out_at_the_gate_gives_back_the_mail_and_the_one_after_it() -> None:
    relay = Relay.parse("smtp://relay.example.com?tls=off")
    lines = Lines(connect=lambda _: Willing())
    queue = JobQueue({lane.rank: 1 for lane in Lane})
    gate = Gate(max_unrecorded=1, clock=monotonic)
    gate.close()
    desk = Desk()
    office = Office(
        desk=desk,
        gate=gate,
        verdicts=Verdicts(doubt_s=60, random=random),
        lines=lines,
        lingers=False,
    )
    outlet = Outlet(
        relay,
        breaker=lines.breaker(relay),
        throttle=lines.throttle(relay),
        queue=queue,
        start=lambda _: sender,
    )
    sender = Sender(outlet, office)
    queue.put([job(2, lease_s=60)])
    sender._deliver(job(1, lease_s=0.2))
    assert [one.recipient_id for one in desk.take().released] == [1]
    assert [one.claims[0].recipient_id for one in queue.close()] == [2]
