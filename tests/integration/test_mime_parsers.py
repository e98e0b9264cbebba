"""Composed messages, read back by parsers that we did not write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import just, one_of

from postroom.message.address import Address
from postroom.message.message import Disposition, Draft
from postroom.message.mime import compose, message_id_for
from tests.mime import foreign, readings
from tests.mime.drafts import TOKEN, addresses, attached_message, draft, drafts, part
from tests.mime.rules import violations

Reader = Callable[[bytes], readings.Reading]

ANN = Address("Ann <ann@example.com>")
LOGO = part(b"\x89PNG", content_type="image/png", disposition=Disposition.INLINE, content_id="l@e")
REPORT = part(b"a;b\r\n", filename="report.csv", content_type="text/csv; charset=utf-8")
SCAN = part(bytes(range(256)) * 300, filename="Übersicht – Größe & Gewicht.pdf")
FORWARDED = part(attached_message("Größe\n.\n"), filename="mail.eml", content_type="message/rfc822")
INVITATION = part(
    b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n",
    content_type="text/calendar; method=REQUEST; charset=utf-8",
    disposition=Disposition.ALTERNATIVE,
)
PEOPLE = tuple(Address(f'"Nr. {n}, Ops" <ops{n}@example.com>') for n in range(30))

#: Messages as people send them.
MESSAGES: dict[str, Draft] = {
    "plain": draft(),
    "order confirmation": draft(subject="Ihre Bestellung Nr. 17 – danke!", html="<p>Größe: 42</p>"),
    "report": draft(attachments=(REPORT, SCAN)),
    "newsletter": draft(html='<img src="cid:l@e">' + "<p>word</p>" * 500, attachments=(LOGO,)),
    "invitation": draft(html="<p>Come</p>", attachments=(INVITATION, REPORT)),
    "everything": draft(html="<p>All</p>", attachments=(LOGO, INVITATION, SCAN, FORWARDED)),
    "forwarded": draft(attachments=(FORWARDED,)),
    "shared": draft(shared=True, to=PEOPLE[:20], cc=PEOPLE[20:]),
    "undisclosed": draft(shared=True),
    "Japanese": draft(
        sender=Address("株式会社例え <info@例え.テスト>"),
        subject="ご注文ありがとうございます。" * 5,
        text="ご注文ありがとうございます。\n" * 20,
        html="<p>ご注文ありがとうございます。</p>" * 20,
        attachments=(part(b"x", filename="請求書" * 20 + ".pdf"),),
    ),
    "Arabic": draft(
        sender=Address("متجر <shop@example.com>"), subject="طلبك جاهز", text="شكراً لك\n"
    ),
    "EAI": draft(
        sender=Address("用户 <用户@例え.テスト>"),
        reply_to=(Address("jörg@bücher.example"),),
    ),
    "dots": draft(text=".\n..\n.hidden\nFrom me\n" + "." * 300 + "\n", html="<p>.</p>\n.\n"),
}


def raw_of(wish: Draft, to: Address | None) -> bytes:
    content = compose(wish)
    head = content.head(to=to, message_id=message_id_for(TOKEN, 7, wish.sender))
    return head + b"".join(content.tail())


@pytest.fixture(scope="module")
def mailparser() -> Iterator[Reader]:
    parser = foreign.mailparser()
    yield parser.read
    parser.close()


@pytest.fixture(scope="module")
def email_mime() -> Iterator[Reader]:
    parser = foreign.email_mime()
    yield parser.read
    parser.close()


@pytest.fixture
def reader(request: pytest.FixtureRequest) -> Reader:
    own: dict[str, Reader] = {"email": readings.standard_library, "fast-mail-parser": readings.rust}
    named: Reader = own.get(request.param) or request.getfixturevalue(request.param)
    return named


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize(
    "reader", ["email", "fast-mail-parser", "mailparser", "email_mime"], indirect=True
)
def test_a_parser_reads_what_was_asked(reader: Reader, message: str) -> None:
    wish = MESSAGES[message]
    to = None if wish.shared else ANN

    assert reader(raw_of(wish, to)).differences(readings.asked(wish, to)) == []


@pytest.fixture(scope="module")
def readers() -> Iterator[dict[str, Reader]]:
    """Every parser that is present; the test above counts those that are not."""
    found: dict[str, Reader] = {
        "email": readings.standard_library,
        "fast-mail-parser": readings.rust,
    }
    running = []
    for start in (foreign.mailparser, foreign.email_mime):
        with suppress(pytest.skip.Exception):
            running.append(start())
            found[start.__name__] = running[-1].read
    yield found
    for parser in running:
        parser.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(
    max_examples=max(500, settings().max_examples),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(wish=drafts(), to=one_of(just(ANN), addresses()))
def test_any_message_keeps_the_rules_and_reads_back(
    readers: dict[str, Reader], wish: Draft, to: Address
) -> None:
    shown = None if wish.shared else to
    content = compose(wish)
    needs_smtputf8 = content.needs_smtputf8 or (shown is not None and shown.needs_smtputf8)
    raw = raw_of(wish, shown)

    assert violations(raw, smtputf8=needs_smtputf8) == []
    assert sum(map(len, content.tail())) == content.tail_size_bytes
    asked = readings.asked(wish, shown)
    differences = {name: read(raw).differences(asked) for name, read in readers.items()}
    assert not any(differences.values()), differences
