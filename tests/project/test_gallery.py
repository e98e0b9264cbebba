"""The gallery: its examples run, their mails arrive as they were typed, and its pictures exist."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from email.message import EmailMessage, MIMEPart
from itertools import chain

import openpyxl
import pytest

from docs.gallery.client import page_of
from docs.gallery.examples import (
    FOLDER,
    PAGE,
    Delivered,
    deliveries,
    octets,
    parsed,
    read_page,
    recipient_of,
)
from postroom import Address, Attachment
from postroom.message.content_source import BytesSource, PathSource

NAMES = [example.name for example in read_page()[1]]
TEXT = PAGE.read_text(encoding="utf-8")

#: As a person would load it in a browser.
MAX_PICTURE_BYTES = 60_000


@pytest.fixture(scope="module")
def gallery() -> Mapping[str, Delivered]:
    """Every example by the name of its picture, delivered."""
    return {delivered.example.name: delivered for delivered in deliveries()}


def parts(mail: EmailMessage, disposition: str) -> list[EmailMessage]:
    return [part for part in mail.walk() if part.get_content_disposition() == disposition]


def files(mail: EmailMessage) -> dict[str, bytes]:
    attached = parts(mail, "attachment")
    return {str(part.get_filename()): octets(part) for part in attached}


def body(mail: EmailMessage, kind: str = "plain") -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n").rstrip("\n")


def read_again(attachment: Attachment) -> bytes | None:
    """Return what was attached, None where it was written from rows."""
    match attachment.source:
        case BytesSource(data=data):
            return data
        case PathSource(path=path):
            return (FOLDER / path).read_bytes()
    return None


def structure(mail: MIMEPart) -> str:
    if not mail.is_multipart():
        return mail.get_content_type()
    return f"{mail.get_content_subtype()}({', '.join(map(structure, mail.iter_parts()))})"


@pytest.mark.parametrize("name", NAMES)
def test_everyone_who_is_written_to_gets_one_copy(
    gallery: Mapping[str, Delivered], name: str
) -> None:
    typed = gallery[name].typed
    everyone = [recipient_of(one).envelope for one in (*typed.to, *typed.cc, *typed.bcc)]
    received = chain.from_iterable(mail.recipients for mail in gallery[name].received)
    assert sorted(received) == sorted(everyone)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_typed_reads_back(gallery: Mapping[str, Delivered], name: str) -> None:
    message, mail = gallery[name].typed.message, gallery[name].first
    sender = message.sender or "Paper & Ink <shop@paperandink.example>"
    assert Address(str(mail["From"])) == Address(str(sender))
    if isinstance(message.subject, str):
        assert mail["Subject"] == message.subject
    if isinstance(message.text, str):
        assert body(mail) == message.text.rstrip("\n")
    headers = message.extra_headers
    assert [(header, mail[header]) for header, _ in headers] == list(headers)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_arrives_under_its_name(gallery: Mapping[str, Delivered], name: str) -> None:
    received = {
        part.get_filename(): octets(part)
        for part in gallery[name].first.walk()
        if part.get_filename()
    }
    attached = {
        one.filename: read_again(one) or received[one.filename]
        for one in gallery[name].typed.message.attachments
        if one.disposition != "alternative"
    }
    assert received == attached


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_how_a_mail_is_built(gallery: Mapping[str, Delivered], name: str) -> None:
    assert f"({PAGE.stem}/{name}.png)\n\nArrives as `{structure(gallery[name].first)}`.\n" in TEXT


@pytest.mark.parametrize("name", NAMES)
def test_a_reader_sees_every_image_of_a_mail(gallery: Mapping[str, Delivered], name: str) -> None:
    mail = gallery[name].first
    page = page_of(mail)
    assert "cid:" not in page
    assert page.count("data:image/png;base64,") == len(parts(mail, "inline"))


def test_rows_are_read_back_from_both_files(gallery: Mapping[str, Delivered]) -> None:
    attached = files(gallery["report"].first)
    lines = list(csv.reader(io.StringIO(attached["results.csv"].decode("utf-8-sig"))))
    assert lines[0] == ["order", "tracking_number", "result"]
    assert lines[-1] == ["A-9999", "0034 0434 1643", "unknown order"]
    book = openpyxl.load_workbook(io.BytesIO(attached["results.xlsx"]))
    assert [list(row) for row in book["All lines"].values] == lines
    assert len(list(book["Shipped"].values)) == 4


def test_each_reader_of_the_newsletter_is_addressed_alone(gallery: Mapping[str, Delivered]) -> None:
    mails = [parsed(mail.content) for mail in gallery["newsletter"].received]
    seen = {(mail["Subject"], re.findall(r"/leave/(\w+)", body(mail))[0]) for mail in mails}
    assert seen == {("Zoë, spring is bottled", "r8Kx2"), ("Jo, spring is bottled", "w3Lq9")}


def test_an_invitation_is_an_alternative_that_calendars_read(
    gallery: Mapping[str, Delivered],
) -> None:
    (invitation,) = (
        part
        for part in gallery["invitation"].first.walk()
        if part.get_content_type() == "text/calendar"
    )
    assert invitation["Content-Type"].params["method"] == "REQUEST"
    assert b"\r\nDTSTART:20260319T170000Z\r\n" in octets(invitation)


def test_an_answer_stands_in_the_thread(gallery: Mapping[str, Delivered]) -> None:
    mail = gallery["reply"].first
    assert mail["In-Reply-To"] == mail["References"] == "<b2f1c0@mail.example.com>"
    assert mail["Subject"] == "Re: Which ink for the Ærø pen?"


def test_one_mail_for_all_names_all_but_the_blind_copies(gallery: Mapping[str, Delivered]) -> None:
    (received,) = gallery["together"].received
    mail = parsed(received.content)
    assert [one.addr_spec for one in mail["To"].addresses] == [
        "ada@example.com",
        "grace@example.com",
    ]
    assert [one.display_name for one in mail["Cc"].addresses] == ["Zoë Sample", ""]
    assert b"archive" not in received.content


@pytest.mark.parametrize(
    ("name", "subject", "said"),
    [
        (
            "order-confirmation",
            "Order A-1001 is confirmed",
            "Notebook A5, dotted     3         €29.40",
        ),
        ("password-reset", "Choose a new password", "Choose one within 30 minutes:"),
        ("german", "Deine Bestellung A-1001 ist unterwegs", "Freitag, 6. März 2026"),
        ("german", "Deine Bestellung A-1001 ist unterwegs", "€\N{NO-BREAK SPACE}1.102,40"),
        ("japanese", "領収書の送付（ご注文番号 A-1001）", "2026年3月2日月曜日"),
        ("arabic", "طلبك رقم A-1001 في الطريق إليك", "الجمعة، 6 مارس 2026"),
    ],
)
def test_templates_say_it_in_the_reader_s_language(
    gallery: Mapping[str, Delivered], name: str, subject: str, said: str
) -> None:
    assert gallery[name].first["Subject"] == subject
    assert said in body(gallery[name].first)


def test_arabic_runs_from_right_to_left(gallery: Mapping[str, Delivered]) -> None:
    assert 'dir="rtl"' in body(gallery["arabic"].first, "html")


def test_an_address_in_another_script_reads_back(gallery: Mapping[str, Delivered]) -> None:
    (written_to,) = gallery["eai"].first["To"].addresses
    assert written_to.addr_spec == "ζωή@παράδειγμα.example"
    assert written_to.display_name == "Ζωή Παπά"


def test_the_page_shows_templates_as_they_are() -> None:
    shown = re.findall(r"^```html (\S+)\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert len(shown) == 2
    for path, source in shown:
        assert (PAGE.parent / path).read_text(encoding="utf-8") == source


def test_every_example_has_a_picture_and_every_picture_an_example() -> None:
    pictures = {path.stem: path.read_bytes() for path in FOLDER.glob("*.png")}
    assert sorted(pictures) == sorted(NAMES)
    assert [name for name, picture in pictures.items() if picture[:4] != b"\x89PNG"] == []
    assert [name for name, picture in pictures.items() if len(picture) > MAX_PICTURE_BYTES] == []
