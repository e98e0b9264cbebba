"""From a draft to its bytes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from postroom.errors import InvalidHeader, MessageError
from postroom.message.address import Address
from postroom.message.message import Disposition, Draft, StoredAttachment
from postroom.message.mime import compose, message_id_for
from postroom.message.templates import FrozenTemplate
from tests.mime.drafts import TOKEN, draft, part
from tests.mime.rules import violations

ANN = Address("Ann <ann@example.com>")


def written(message: Draft, to: Address | None = ANN) -> str:
    content = compose(message)
    shown = None if message.shared else to
    head = content.head(to=shown, message_id=message_id_for(TOKEN, 7, message.sender))
    raw = head + b"".join(content.tail())
    assert violations(raw, smtputf8=content.needs_smtputf8 or bool(to and to.needs_smtputf8)) == []
    return raw.decode()


def body_of(message: Draft) -> str:
    return written(message).partition("MIME-Version: 1.0\r\n")[2]


def test_a_plain_message_is_as_plain_as_can_be() -> None:
    assert written(draft()) == (
        "To: Ann <ann@example.com>\r\n"
        "Message-ID: <0123456789abcdef0123456789abcdef.7@example.com>\r\n"
        "Date: Wed, 01 May 2024 12:30:00 +0000\r\n"
        "From: Shop <shop@example.com>\r\n"
        "Subject: Your order\r\n"
        "Auto-Submitted: auto-generated\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 7bit\r\n"
        "\r\n"
        "Thank you.\r\n"
    )


def test_copies_differ_in_their_first_lines_only() -> None:
    content = compose(draft())
    bob = content.head(to=Address("bob@example.com"), message_id="<b@example.com>")

    assert bob == b"To: bob@example.com\r\nMessage-ID: <b@example.com>\r\n"
    assert b"".join(content.tail()).startswith(b"Date: ")


def test_a_message_id_tells_copies_apart_and_stays_the_same_at_a_retry() -> None:
    sender = Address("shop@Bücher.example")

    assert message_id_for(TOKEN, 17, sender) == f"<{TOKEN}.17@xn--bcher-kva.example>"
    assert message_id_for(TOKEN, None, sender) == f"<{TOKEN}@xn--bcher-kva.example>"


def test_the_date_is_in_utc_whatever_zone_it_came_in() -> None:
    zone = timezone(timedelta(hours=5, minutes=45))
    moment = datetime(2024, 1, 1, 3, 4, 5, tzinfo=zone)

    assert "Date: Sun, 31 Dec 2023 21:19:05 +0000\r\n" in written(draft(date=moment))
    assert written(draft(date=moment)) == written(draft(date=moment.astimezone(UTC)))


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("Ann Smith", "Ann Smith"),
        ("Ann B. Smith", '"Ann B. Smith"'),
        ("O'Neil, Sam", '"O\'Neil, Sam"'),
        (r'A "B" \ C', r'"A \"B\" \\ C"'),
        ("Jörg Müllers Laden", "=?utf-8?q?J=C3=B6rg_M=C3=BCllers_Laden?="),
        ("=?utf-8?q?Eve?=", "=?utf-8?b?PT91dGYtOD9xP0V2ZT89?="),
        ("ann@example.com", '"ann@example.com"'),
        ("a  b", "=?utf-8?q?a__b?="),
    ],
)
def test_a_name_is_written_so_that_all_read_the_same(name: str, phrase: str) -> None:
    sender = Address.from_parts(local="shop", domain="example.com", name=name)

    assert f"From: {phrase} <shop@example.com>\r\n" in written(draft(sender=sender))


@pytest.mark.parametrize(
    ("subject", "line"),
    [
        ("", "Subject: "),
        ("Re: your order (1=2)", "Subject: Re: your order (1=2)"),
        ("Größe", "Subject: =?utf-8?b?R3LDtsOfZQ==?="),
        (" a", "Subject: =?utf-8?q?_a?="),
        ("=?utf-8?q?x?=", "Subject: =?utf-8?b?PT91dGYtOD9xP3g/PQ==?="),
        ("word " * 15 + "end", "Subject: " + "word " * 12 + "word\r\n word word end"),
        ("a" * 67 + "b", "Subject: =?utf-8?q?" + "a" * 54 + "?=\r\n =?utf-8?q?" + "a" * 13 + "b?="),
    ],
)
def test_a_subject_is_written_so_that_all_read_the_same(subject: str, line: str) -> None:
    assert f"\r\n{line}\r\nAuto" in written(draft(subject=subject))


def test_a_domain_beyond_ascii_is_written_in_a_labels() -> None:
    text = written(draft(sender=Address("shop@bücher.example")))

    assert "From: shop@xn--bcher-kva.example\r\n" in text


def test_a_local_part_beyond_ascii_makes_its_headers_utf8() -> None:
    content = compose(draft(sender=Address("Läden <läden@BÜCHER。example>")))

    assert content.needs_smtputf8
    tail = b"".join(content.tail()).decode()
    assert "From: =?utf-8?b?TMOkZGVu?= <läden@bücher.example>\r\n" in tail


def test_a_copy_to_such_an_address_leaves_the_others_in_ascii() -> None:
    content = compose(draft())
    head = content.head(to=Address("用户@例え.テスト"), message_id="<a@example.com>")

    assert head.decode().startswith("To: 用户@例え.テスト\r\n")
    assert not content.needs_smtputf8
    assert b"".join(content.tail()).isascii()


def test_everyone_who_is_written_to_together_sees_everyone() -> None:
    people = tuple(Address(f"Person {number} <p{number}@example.com>") for number in range(4))
    text = written(draft(shared=True, to=people[:3], cc=people[3:]))

    assert (
        "To: Person 0 <p0@example.com>, Person 1 <p1@example.com>, Person 2\r\n"
        " <p2@example.com>\r\n"
        "Cc: Person 3 <p3@example.com>\r\n"
    ) in text
    assert "Bcc" not in text


def test_where_all_are_hidden_the_header_says_so() -> None:
    assert "To: undisclosed-recipients:;\r\n" in written(draft(shared=True))


def test_answers_go_where_the_sender_wants_them() -> None:
    answers = (Address("a@example.com"), Address("Bé <b@example.com>"))

    text = written(draft(reply_to=answers))
    assert "Reply-To: a@example.com, =?utf-8?b?QsOp?= <b@example.com>\r\n" in text


def test_custom_headers_are_written_in_their_order() -> None:
    headers = (
        ("X-Order", "17"),
        ("X-Order", "18"),
        ("X-Kunde", "Größe"),
        ("X-Empty", ""),
        ("X-Token", "t" * 100),
        ("In-Reply-To", "<a@example.com>"),
        ("References", f"<{'a' * 40}@example.com> <{'b' * 40}@example.com>"),
        ("List-ID", "Neues für alle <news.example.com>"),
        ("List-Unsubscribe", f"<https://example.com/{'u' * 80}>, <mailto:u@example.com>"),
    )
    text = written(draft(headers=headers))

    assert (
        "X-Order: 17\r\n"
        "X-Order: 18\r\n"
        "X-Kunde: =?utf-8?b?R3LDtsOfZQ==?=\r\n"
        "X-Empty:\r\n"
        f"X-Token: {'t' * 100}\r\n"
        "In-Reply-To: <a@example.com>\r\n"
        f"References: <{'a' * 40}@example.com>\r\n"
        f" <{'b' * 40}@example.com>\r\n"
        "List-ID: =?utf-8?q?Neues_f=C3=BCr_alle?= <news.example.com>\r\n"
        f"List-Unsubscribe: <https://example.com/{'u' * 80}>,\r\n"
        " <mailto:u@example.com>\r\n"
    ) in text


def test_a_message_may_say_how_it_came_about() -> None:
    text = written(draft(headers=(("auto-submitted", "no"),)))

    assert "auto-submitted: no\r\n" in text
    assert "auto-generated" not in text


@pytest.mark.parametrize(
    "headers",
    [
        (("Subject", "another"),),
        (("BCC", "eve@example.com"),),
        (("Content-Type", "text/html"),),
        (("Importance", "high"), ("importance", "low")),
    ],
)
def test_a_header_that_may_occur_once_does(headers: tuple[tuple[str, str], ...]) -> None:
    with pytest.raises(InvalidHeader, match="to be given once"):
        compose(draft(headers=headers))


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Plain.\n", "7bit"),
        ("", "7bit"),
        ("tab\tinside\n", "7bit"),
        ("x" * 998 + "\n", "7bit"),
        ("x" * 999 + "\n", "quoted-printable"),
        (".\n", "quoted-printable"),
        ("a\n.b\n", "quoted-printable"),
        ("From me\n", "quoted-printable"),
        ("end \nx\n", "quoted-printable"),
        ("end\t", "quoted-printable"),
        ("--=_x\n", "quoted-printable"),
        ("nul \0\n", "quoted-printable"),
        ("Die Größe der Kiste\n", "quoted-printable"),
        ("日本語\n", "base64"),
        ("éé", "base64"),
    ],
    ids=ascii,
)
def test_a_body_travels_in_the_shortest_form_that_nothing_changes(text: str, encoding: str) -> None:
    assert f"\r\nContent-Transfer-Encoding: {encoding}\r\n" in written(draft(text=text))


@pytest.mark.parametrize("text", ["a\nb\n", "a\r\nb\r\n", "a\rb\r", "a\r\nb\n"], ids=ascii)
def test_lines_may_end_as_they_like(text: str) -> None:
    assert written(draft(text=text)).endswith("\r\n\r\na\r\nb\r\n")


def test_a_lone_surrogate_in_a_body_is_an_error_of_ours() -> None:
    with pytest.raises(MessageError, match=r"lone surrogates, got: '.ud800' at character 2"):
        compose(draft(text="ab\ud800"))


def test_what_is_not_rendered_cannot_be_composed() -> None:
    message = draft(subject=object.__new__(FrozenTemplate))

    with pytest.raises(TypeError, match="nothing left to render"):
        compose(message)


IMAGE = part(b"png", content_type="image/png", disposition=Disposition.INLINE, content_id="logo")
INVITATION = part(
    b"BEGIN:VCALENDAR",
    filename="invite.ics",
    content_type="text/calendar; method=REQUEST; charset=utf-8",
    disposition=Disposition.ALTERNATIVE,
)
REPORT = part(b"a;b", filename="report.csv", content_type="text/csv")


@pytest.mark.parametrize(
    ("changes", "levels"),
    [
        ({}, []),
        ({"html": "<p>"}, ["alternative"]),
        ({"text": None, "html": "<p>"}, []),
        ({"text": None, "html": "<p>", "attachments": (IMAGE,)}, ["related"]),
        ({"html": "<p>", "attachments": (IMAGE,)}, ["related", "alternative"]),
        ({"attachments": (INVITATION,)}, ["alternative"]),
        ({"attachments": (REPORT,)}, ["mixed"]),
        ({"attachments": (IMAGE,)}, ["mixed"]),
        (
            {"html": "<p>", "attachments": (REPORT, IMAGE, INVITATION)},
            ["mixed", "related", "alternative"],
        ),
    ],
)
def test_only_the_levels_that_are_needed_are_written(
    changes: dict[str, object], levels: list[str]
) -> None:
    body = body_of(draft(**changes))

    assert body.count("multipart/") - body.count('type="multipart/') == len(levels)
    places = [body.index(f"Content-Type: multipart/{level};") for level in levels]
    assert places == sorted(places)


def test_a_related_part_says_what_its_root_is() -> None:
    both = body_of(draft(html="<p>", attachments=(IMAGE,)))
    html_only = body_of(draft(text=None, html="<p>", attachments=(IMAGE,)))

    assert both.startswith('Content-Type: multipart/related; type="multipart/alternative";\r\n')
    assert html_only.startswith('Content-Type: multipart/related; type="text/html";\r\n')


def test_parts_have_the_headers_that_readers_look_for() -> None:
    body = body_of(draft(html="<p>", attachments=(REPORT, IMAGE, INVITATION)))

    assert (
        "Content-Type: text/csv\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        "Content-Disposition: attachment;\r\n"
        ' filename="report.csv"\r\n'
        "\r\n"
        "YTti\r\n"
    ) in body
    assert (
        "Content-Type: image/png\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        "Content-Disposition: inline;\r\n"
        ' filename="data.bin"\r\n'
        "Content-ID: <logo>\r\n"
        "\r\n"
    ) in body
    assert (
        "Content-Type: text/calendar; method=REQUEST; charset=utf-8\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        "\r\n"
    ) in body


def test_the_same_draft_gives_the_same_bytes() -> None:
    message = draft(html="<p>", attachments=(REPORT, IMAGE))

    assert list(compose(message).tail()) == list(compose(replace(message)).tail())
    content = compose(message)
    assert list(content.tail()) == list(content.tail())


def test_sizes_are_exact_and_nothing_is_read_to_know_them() -> None:
    def refuse() -> Iterator[bytes]:
        raise AssertionError("the attachment was read")

    for size in (0, 1, 56, 57, 58, 1 << 20):
        real = part(bytes(size))
        unread = StoredAttachment(
            **{name: getattr(real, name) for name in StoredAttachment.__slots__} | {"open": refuse}
        )

        content = compose(draft(attachments=(real,)))
        assert compose(draft(attachments=(unread,))).tail_size_bytes == content.tail_size_bytes
        assert sum(map(len, content.tail())) == content.tail_size_bytes


def test_pieces_are_at_most_256_kib_however_large_the_parts() -> None:
    large = part(b"\n" * 300_000, content_type="message/rfc822")
    message = draft(
        text="line\n" * 200_000, html="é" * 500_000, attachments=(part(bytes(1 << 20)), large)
    )

    assert max(map(len, compose(message).tail())) <= 256 * 1024


def test_an_attachment_is_never_whole_in_memory() -> None:
    message = draft(attachments=(part(bytes(1 << 25)),))
    content = compose(message)
    tracemalloc.start()

    for _ in content.tail():
        pass

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20
