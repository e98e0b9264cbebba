"""The pytest plugin, as the tests of an application use it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import URL, Engine, StaticPool, create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from postroom import Attachment, Lane, Message, Outbox, Phase, Recipient, RecipientState, Template
from postroom.storage import schema
from postroom.testing import DeliverMail, FaultyRelay, OutboxMail
from tests.integration.pages import typed, write_files

pytest_plugins = ["pytester"]

ADA, BOB = "ada@example.com", "bob@example.com"


@pytest.fixture
def outbox() -> Outbox:
    """The application's; it needs neither engine nor relay to enqueue."""
    return Outbox(sender="Shop <shop@example.com>")


def confirm(outbox: Outbox, session: Any, number: str = "A-1", **order: Any) -> Any:
    message = Message(
        subject=f"Order {number} confirmed",
        text="Thank you.\nSee you soon.\n",
        html="<p>Thank you.</p>",
        attachments=[Attachment.from_bytes("invoice.pdf", b"%PDF-")],
        tags=["order"],
        lane=Lane.URGENT,
    )
    return outbox.enqueue(session, message, **({"to": [ADA]} | order))


# -- what was enqueued ------------------------------------------------------------------------


def test_a_mail_is_read_from_the_bytes_that_would_go_out(
    outbox: Outbox, session: Session, outbox_mail: OutboxMail
) -> None:
    confirm(
        outbox,
        session,
        to=[f"Ada <{ADA}>"],
        cc=["boss@example.com"],
        bcc=[BOB],
        idempotency_key="k",
    )
    mail = outbox_mail.only()
    assert (mail.to, mail.cc, mail.bcc) == ((ADA,), ("boss@example.com",), (BOB,))
    assert mail.recipients == (ADA, "boss@example.com", BOB)
    assert mail.sender == "Shop <shop@example.com>"
    assert mail.subject == "Order A-1 confirmed"
    assert mail.text == "Thank you.\nSee you soon.\n"
    assert mail.html.strip() == "<p>Thank you.</p>"
    (invoice,) = mail.attachments
    assert (invoice.filename, invoice.content_type) == ("invoice.pdf", "application/pdf")
    assert mail.attachment("invoice.pdf") == b"%PDF-"
    assert (mail.idempotency_key, mail.tags, mail.lane, mail.relay) == (
        "k",
        ("order",),
        Lane.URGENT,
        None,
    )
    assert (mail.is_shared, mail.is_committed) == (True, False)
    assert (mail.scheduled_at, mail.expires_at) == (None, None)
    assert mail.copy_for(ADA).message["Cc"] == "boss@example.com"
    session.commit()
    assert mail.is_committed


def test_each_recipient_has_a_copy_of_their_own(
    outbox: Outbox, session: Session, outbox_mail: OutboxMail
) -> None:
    code = Template.from_string("Your code: {{ code }}")
    people = [Recipient(ADA, {"code": "A-17"}), Recipient(BOB, {"code": "B-42"})]
    outbox.enqueue(session, Message(subject="Hi", text=code), to=people)
    mail = outbox_mail.only()
    assert mail.text.strip() == "Your code: A-17"
    assert mail.copy_for("BOB@example.com").text.strip() == "Your code: B-42"
    outbox_mail.assert_enqueued(to=BOB, text="B-42")
    with pytest.raises(AssertionError, match=r"not for eve@example\.com, but for"):
        mail.copy_for("eve@example.com")


def test_those_whom_a_query_finds_are_recipients(
    outbox: Outbox, session: Session, outbox_mail: OutboxMail
) -> None:
    confirm(outbox, session)
    addresses = select(outbox._tables.recipient.c.address)
    outbox.enqueue(session, Message(subject="News", text="-"), to=addresses)
    assert outbox_mail[-1].recipients == (ADA,)


def test_what_is_rolled_back_is_gone(
    outbox: Outbox, session: Session, outbox_mail: OutboxMail
) -> None:
    confirm(outbox, session, "A-1")
    session.commit()
    confirm(outbox, session, "A-2")
    savepoint = session.begin_nested()
    confirm(outbox, session, "A-3")
    savepoint.rollback()
    with session.begin_nested():
        confirm(outbox, session, "A-4")
    assert [mail.subject[6:9] for mail in outbox_mail] == ["A-1", "A-2", "A-4"]
    session.rollback()
    confirm(outbox, session, "A-5")
    assert [mail.subject[6:9] for mail in outbox_mail] == ["A-1", "A-5"]
    session.close()
    assert [mail.subject[6:9] for mail in outbox_mail] == ["A-1"]


def test_a_key_that_stands_is_one_mail(
    outbox: Outbox, session: Session, outbox_mail: OutboxMail
) -> None:
    confirm(outbox, session, idempotency_key="k")
    confirm(outbox, session, idempotency_key="k")
    assert len(outbox_mail) == 1


# -- assertions -------------------------------------------------------------------------------


def test_an_assertion_finds_the_mail(
    outbox: Outbox, session: Session, outbox_mail: OutboxMail
) -> None:
    confirm(outbox, session, "A-1", idempotency_key="order:A-1")
    confirm(outbox, session, "A-2", to=[BOB])
    found = outbox_mail.assert_enqueued(
        to="Ada@Example.com",
        subject="Order A-1 confirmed",
        text="See you",
        html="<p>",
        attachment="invoice.pdf",
        sender="Shop <shop@example.com>",
        idempotency_key="order:A-1",
        tag="order",
    )
    assert found is outbox_mail[0]
    assert outbox_mail.to(BOB) == [outbox_mail[1]]
    outbox_mail.assert_nothing(to="eve@example.com")


DIFFERENCE = """\
expected a mail to ada@example.com with subject 'Order A-2 confirmed', got 2 that differ:
<mail 'Order A-1 confirmed' to ada@example.com>
  its subject differs:
  - Order A-2 confirmed
  ?         ^
  + Order A-1 confirmed
  ?         ^
<mail 'Order A-3 confirmed' to bob@example.com>
  it is for bob@example.com
  its subject differs:
"""


def test_a_difference_is_shown_the_nearest_mail_first(
    outbox: Outbox, session: Session, outbox_mail: OutboxMail
) -> None:
    confirm(outbox, session, "A-3", to=[BOB])
    confirm(outbox, session, "A-1")
    with pytest.raises(AssertionError) as raised:
        outbox_mail.assert_enqueued(to=ADA, subject="Order A-2 confirmed")
    assert str(raised.value).startswith(DIFFERENCE)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"text": "Good bye"}, "its text does not contain it:\n  Thank you.\n  See you soon."),
        ({"text": "Thank you.\nGood bye.\n"}, "its text differs:\n    Thank you.\n  - Good bye."),
        ({"attachment": "bill.pdf"}, "its attachments are invoice.pdf"),
        ({"tag": "news"}, "its tags are order"),
        ({"idempotency_key": "k"}, "its idempotency_key differs:\n  - k"),
        ({"sender": "me@example.com"}, "its sender differs"),
    ],
)
def test_whatever_differs_is_named(
    outbox: Outbox, session: Session, outbox_mail: OutboxMail, wanted: Any, said: str
) -> None:
    confirm(outbox, session)
    with pytest.raises(AssertionError) as raised:
        outbox_mail.assert_enqueued(**wanted)
    assert said in str(raised.value)


def test_no_mail_and_too_much_are_said(
    outbox: Outbox, session: Session, outbox_mail: OutboxMail
) -> None:
    with pytest.raises(AssertionError, match="expected one mail, got: none"):
        outbox_mail.only()
    with pytest.raises(AssertionError, match="got no mail at all"):
        outbox_mail.assert_enqueued(to=ADA)
    outbox_mail.assert_nothing()
    confirm(outbox, session, to=[f"user{number}@example.com" for number in range(5)])
    with pytest.raises(AssertionError, match=r"expected no mail, got: 1:\n  <mail 'Order A-1"):
        outbox_mail.assert_nothing()
    for _ in range(6):
        confirm(outbox, session)
    with pytest.raises(AssertionError, match=r"got: 7:[^$]*and 2 more"):
        outbox_mail.only()


# -- delivery ---------------------------------------------------------------------------------


def test_what_is_committed_is_delivered_from_the_applications_database(
    outbox: Outbox,
    session: Session,
    outbox_mail: OutboxMail,
    deliver_mail: DeliverMail,
    faulty_relay: FaultyRelay,
) -> None:
    faulty_relay.on(Phase.RCPT, "550 5.1.1 no such user", address=BOB)
    receipt = confirm(outbox, session, to=[ADA, BOB])
    session.commit()
    delivery = deliver_mail()
    arrived = delivery.only()
    assert (arrived.sender, arrived.recipients) == ("shop@example.com", (ADA,))
    assert arrived.subject == "Order A-1 confirmed"
    assert arrived.attachment("invoice.pdf") == b"%PDF-"
    assert delivery.to(BOB) == []
    states = {one.address: one.state for one in delivery.status(outbox_mail[0]).recipients}
    assert states == {ADA: RecipientState.ACCEPTED, BOB: RecipientState.REJECTED}
    status = outbox.status(session, receipt)
    assert {one.address: one.state for one in status.recipients} == states
    session.rollback()
    assert len(deliver_mail()) == 0


def test_a_mail_that_asks_for_a_relay_gets_this_one(
    outbox: Outbox, session: Session, deliver_mail: DeliverMail
) -> None:
    outbox.enqueue(session, Message(subject="News", text="-", relay="bulk"), to=[ADA])
    session.commit()
    assert deliver_mail().only().subject == "News"


@pytest.fixture
def rolled_back(engine: Engine) -> Iterator[Session]:
    """A session whose commits are savepoints of a transaction that is rolled back."""
    with engine.connect() as connection:
        transaction = connection.begin()
        yield Session(connection, join_transaction_mode="create_savepoint")
        transaction.rollback()


def test_a_test_that_rolls_everything_back_sees_and_delivers_its_mail(
    outbox: Outbox, rolled_back: Session, outbox_mail: OutboxMail, deliver_mail: DeliverMail
) -> None:
    confirm(outbox, rolled_back)
    rolled_back.commit()
    dropped = confirm(outbox, rolled_back, "A-2")
    outbox.cancel(rolled_back, dropped)
    outbox.suppress(rolled_back, BOB, "left")
    confirm(outbox, rolled_back, "A-3", to=[BOB])
    rolled_back.commit()
    confirm(outbox, rolled_back, "A-4")
    rolled_back.rollback()
    assert len(outbox_mail) == 3
    delivery = deliver_mail()
    assert delivery.only().subject == "Order A-1 confirmed"
    states = [delivery.status(mail).state for mail in outbox_mail]
    assert states == [
        RecipientState.ACCEPTED,
        RecipientState.CANCELLED,
        RecipientState.SUPPRESSED,
    ]
    rolled_back.close()


def test_a_database_in_memory_will_do(outbox: Outbox, deliver_mail: DeliverMail) -> None:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    schema.create(engine)
    with Session(engine) as session, session.begin():
        confirm(outbox, session)
    assert deliver_mail().only().recipients == (ADA,)
    engine.dispose()


@pytest.mark.parametrize("driver", ["sqlite+aiosqlite", "postgresql+asyncpg"])
def test_an_asynchronous_test_is_no_different(
    outbox: Outbox,
    request: pytest.FixtureRequest,
    driver: str,
    outbox_mail: OutboxMail,
    deliver_mail: DeliverMail,
) -> None:
    url: URL = request.getfixturevalue(f"{driver.partition('+')[0]}_url")

    async def place_order() -> None:
        engine = create_async_engine(url.set(drivername=driver))
        async with engine.begin() as connection:
            await connection.run_sync(outbox._tables.metadata.create_all)
        async with AsyncSession(engine) as session:
            await outbox.aenqueue(session, Message(subject="Kept", text="-"), to=[ADA])
            await session.commit()
            await outbox.aenqueue(session, Message(subject="Not yet", text="-"), to=[BOB])
            assert [mail.subject for mail in outbox_mail] == ["Kept", "Not yet"]
            assert sorted(mail.subject for mail in deliver_mail()) == ["Kept", "Not yet"]
            await session.rollback()
        await engine.dispose()

    anyio.run(place_order)
    assert [mail.subject for mail in outbox_mail] == ["Kept"]


# -- the plugin itself ------------------------------------------------------------------------

APPLICATION = """
from sqlalchemy import create_engine, StaticPool
from sqlalchemy.orm import Session
import pytest
from postroom import Message, Outbox

outbox = Outbox(sender="shop@example.com")

@pytest.fixture
def session():
    engine = create_engine("sqlite://", poolclass=StaticPool)
    outbox._tables.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()

@pytest.fixture
def welcomed(session):
    outbox.enqueue(session, Message(subject="Welcome", text="-"), to=["ada@example.com"])

def order(session, number="A-1"):
    message = Message(subject=f"Order {number}", text="-")
    outbox.enqueue(session, message, to=["ada@example.com"])

def test_looks(session, outbox_mail):
    order(session)
    assert outbox_mail.only().subject == "Order A-1"

def test_delivers(session, deliver_mail):
    order(session)
    assert len(deliver_mail()) == 1

def test_ignores(session, outbox_mail):
    order(session)
    outbox_mail.ignore()

def test_rolls_back(session):
    order(session)
    session.rollback()

def test_is_welcomed(welcomed):
    pass

def test_says_nothing(session):
    order(session)

def test_says_half(session, outbox_mail):
    order(session, "A-1")
    assert outbox_mail[0].subject == "Order A-1"
    order(session, "A-2")

def test_fails_anyway(session):
    order(session)
    assert not "its own failure"
"""


@pytest.mark.parametrize("options", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_where_it_is_strict_every_mail_has_to_be_looked_at(
    pytester: pytest.Pytester, options: list[str]
) -> None:
    pytester.makeini("[pytest]\npostroom_strict = true\n")
    pytester.makepyfile(APPLICATION)
    run = pytester.runpytest_subprocess if options else pytester.runpytest_inprocess
    result = run("-p", "no:cacheprovider", *options)
    result.assert_outcomes(passed=5, failed=3)
    result.stdout.fnmatch_lines_random(
        ["*FAILED *::test_says_nothing*", "*FAILED *::test_says_half*", "*its own failure*"]
    )
    result.stdout.fnmatch_lines_random(["  <mail 'Order A-2' to ada@example.com>"])


def test_where_it_is_not_strict_nobody_has_to_look(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(APPLICATION)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=7, failed=1)


def test_a_project_that_uses_none_of_it_loads_none_of_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_was_loaded():
            assert "pytest_postroom" in sys.modules
            assert "postroom" not in sys.modules
            assert "sqlalchemy" not in sys.modules
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_the_page_on_testing_does_what_it_says(pytester: pytest.Pytester) -> None:
    write_files("flask.md", pytester.path)
    write_files("testing.md", pytester.path)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=4)


def test_the_page_shows_the_difference_as_it_is() -> None:
    assert "".join(DIFFERENCE.splitlines(keepends=True)[1:7]) in typed("testing.md", "differs:")


def test_the_plugin_can_be_left_out(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_asks(outbox_mail): ...")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:postroom")
    result.assert_outcomes(errors=1)


def test_a_relay_for_tests_needs_no_pytest(tmp_path: Path) -> None:
    code = "import sys; sys.modules['pytest'] = None; import postroom.testing"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
