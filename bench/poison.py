"""``poison``: how much does mail that cannot be sent slow down the other mail?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from bench.harness import letters, limit
from bench.harness.contest import Contender, Figures, Series, hold, ratio
from bench.harness.databases import Database, Servers, sqlite
from bench.harness.options import Options
from bench.harness.outboxes import Opened, opened, relay_url
from bench.harness.report import Bar, Report
from bench.harness.worker import Worker
from postroom import Message, Recipient, Template

NAME = "poison"

_EXPLANATION = """\
A hundred messages to many recipients in all. In the second line of a database one mail more for
each hundred, which cannot be sent: in turn a template that raises, and a row whose address is none.
In the third one more for each thousand, whose template never ends and takes the interpreter for
some tenths of a second before it is given up. `msg/s` counts the good mails, all of which arrive;
every other one is rejected with its reason."""

_RAISES = "{{ 1 // zero }}"
_LOOP = "{% for number in range(99999) %}"
_NEVER_ENDS = _LOOP * 2 + "{% endfor %}" * 2 + "{{ zero }}"

_MESSAGES = 100


def run(options: Options) -> Report:
    """Measure with and without on both databases."""
    count = options.size(full=30_000, short=10_000)
    kinds = {
        "all good": (),
        "one in 100 cannot be sent": ("raises", "row") * (count // 200),
        "one in 1,000 never ends": ("never ends",) * (count // 1000),
    }
    with Servers() as servers:
        databases = {"PostgreSQL": servers.postgresql, "SQLite": sqlite}
        series = hold(
            [
                _contender(f"{name}, {word}", database, count, odd)
                for name, database in databases.items()
                for word, odd in kinds.items()
            ],
            options.rounds,
        )
    return Report(
        name=NAME,
        title="beside mail that cannot be sent",
        explanation=_EXPLANATION,
        headline="msg/s",
        parameters={"recipients": count, "rounds": options.rounds},
        series=series,
        bars=list(_bars(series)),
    )


def _bars(series: Sequence[Series]) -> Iterator[Bar]:
    good = series[0]
    for one in series:
        if one.name.endswith("all good"):
            good = one
        else:
            least = 0.9 if one.name.endswith("sent") else 0.3
            yield Bar(what=one.name, value=ratio(one, good, "msg/s"), least=least)


def _contender(name: str, database: Database, count: int, odd: Sequence[str]) -> Contender:
    def measured() -> Figures:
        with limit.sink() as port, opened(database, relay_url(port)) as outbox:
            return _measured(outbox, count, odd)

    return Contender(name=name, run=measured, note="one worker process", is_ours=True)


def _measured(outbox: Opened, count: int, odd: Sequence[str]) -> Figures:
    with Worker(database=outbox.url, relay=outbox.relay) as worker:
        _enqueue(outbox, count, odd)
        worker.go()
        elapsed_s = worker.wait()["elapsed_s"]
    _check(outbox, {"accepted": count, "rejected": len(odd)})
    return {"msg/s": count / elapsed_s}


def _enqueue(outbox: Opened, count: int, odd: Sequence[str]) -> None:
    """Put the odd mails evenly among the good ones."""
    addresses = list(letters.addresses(count))
    with Session(outbox.engine) as session, session.begin():
        for part in range(_MESSAGES):
            outbox.outbox.enqueue(session, letters.message(), to=addresses[part::_MESSAGES])
            for kind in odd[part::_MESSAGES]:
                _enqueue_odd(outbox, session, kind)


def _enqueue_odd(outbox: Opened, session: Session, kind: str) -> None:
    source = _NEVER_ENDS if kind == "never ends" else _RAISES
    message = Message(sender=letters.SENDER, subject="Odd", text=Template.from_string(source))
    receipt = outbox.outbox.enqueue(
        session, message, to=[Recipient("odd@example.com", variables={"zero": 0})]
    )
    if kind == "row":
        recipient = outbox.tables.recipient
        of_it = recipient.c.message_id == receipt.message_id
        session.execute(update(recipient).where(of_it).values(address="none"))


def _check(outbox: Opened, expected: dict[str, int]) -> None:
    recipient = outbox.tables.recipient
    by_state = select(recipient.c.state, func.count()).group_by(recipient.c.state)
    with Session(outbox.engine) as session:
        found = {row[0]: row[1] for row in session.execute(by_state)}
    if {**dict.fromkeys(expected, 0), **found} != expected:
        raise AssertionError(f"expected {expected}, got {found}")
