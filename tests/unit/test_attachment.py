"""An attachment is checked where it is made, and nothing is read before it is enqueued."""

from __future__ import annotations

import io
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import AttachmentError
from postroom.message.attachment import Attachment, Disposition
from postroom.message.content_source import BytesSource, PathSource, ReadOnce


@pytest.mark.parametrize(
    ("given", "travels"),
    [
        ("report.pdf", "report.pdf"),
        ("/home/ann/secret-project/report.pdf", "report.pdf"),
        (r"C:\Users\Ann\report.pdf", "report.pdf"),
        (r"..\..\report.pdf", "report.pdf"),
        (r"\\server\share\report.pdf", "report.pdf"),
        (r"..\report.pdf", "report.pdf"),
        ("C:\\foo\\", None),
        ("foo\\", "foo_"),
        (r"a\b.dat", "a_b.dat"),
        (r"dir/a\b.dat", "a_b.dat"),
        ("Angebot\tMärz \t2026.pdf\t", "Angebot März 2026.pdf"),
        ("Angebot\u00a0März.pdf", "Angebot\u00a0März.pdf"),
        ("Angebot März.pdf", "Angebot März.pdf"),
        ("請求書.pdf", "請求書.pdf"),
    ],
)
def test_what_people_see_of_a_name_travels(given: str, travels: str | None) -> None:
    if travels is None:
        with pytest.raises(AttachmentError, match="expected an attachment to have a file name"):
            Attachment.from_bytes(given, b"")
    else:
        assert Attachment.from_bytes(given, b"").filename == travels


def test_a_name_longer_than_any_file_has_is_refused() -> None:
    assert Attachment.from_bytes("é" * 255, b"").filename == "é" * 255
    with pytest.raises(AttachmentError, match="256 characters"):
        Attachment.from_bytes("a" * 256, b"")


def test_a_path_gives_its_own_base_name() -> None:
    assert Attachment.from_path("/somewhere/else/a.csv").filename == "a.csv"


def test_a_path_may_travel_under_another_name() -> None:
    assert Attachment.from_path("/tmp/x1f3", filename="a.csv").filename == "a.csv"


@pytest.mark.parametrize("name", ["", "/", "a/..", "a/.", "  ", "\\"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(AttachmentError, match="expected an attachment to have a file name"):
        Attachment.from_bytes(name, b"")


@pytest.mark.parametrize("name", ["a\r\nBcc: x@y.example", "a\0.pdf", "a\x1b[2J", "a\udce9.pdf"])
def test_a_name_that_would_break_a_header_is_refused(name: str) -> None:
    with pytest.raises(AttachmentError, match="printable"):
        Attachment.from_bytes(name, b"")


@given(st.text())
def test_whatever_name_is_accepted_is_one_line_without_a_path(name: str) -> None:
    try:
        travels = Attachment.from_bytes(name, b"").filename
    except AttachmentError:
        return
    assert travels
    assert not set(travels) & set("/\\\r\n\0")
    assert len(travels) <= 255


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.pdf", "application/pdf"),
        ("A.PDF", "application/pdf"),
        ("a.tar.gz", "application/gzip"),
        ("a.csv", "text/csv"),
        ("a.js", "text/javascript"),
        ("data:text/html,x.png", "image/png"),
        ("noextension", None),
        ("a.unheard-of", None),
    ],
)
def test_the_name_decides_the_media_type_where_it_can(name: str, expected: str | None) -> None:
    assert Attachment.from_bytes(name, b"").content_type == expected


def test_a_media_type_that_is_given_wins() -> None:
    attachment = Attachment.from_bytes("a.pdf", b"", content_type="Application/X-Thing; v=1")
    assert attachment.content_type == "application/x-thing; v=1"


@pytest.mark.parametrize(
    "wrong", ["", "text", "text/", "a/b\r\nX: y", "multipart/mixed", "text/plain; charset", "ä/b"]
)
def test_a_media_type_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(AttachmentError, match="a media type must be"):
        Attachment.from_bytes("a", b"", content_type=wrong)


def test_an_inline_part_is_named_by_its_file_unless_said_otherwise() -> None:
    named = Attachment.inline("/img/logo.png")
    assert (named.content_id, named.disposition) == ("logo.png", Disposition.INLINE)
    assert Attachment.inline("/img/logo.png", cid="logo").content_id == "logo"
    assert Attachment.from_bytes("logo.png", b"", cid="logo").disposition is Disposition.INLINE


@pytest.mark.parametrize("cid", ["", "a b", "<a>", "a\r\nb", "ü"])
def test_a_content_id_that_a_reader_could_not_resolve_is_refused(cid: str) -> None:
    with pytest.raises(AttachmentError, match="expected a content id"):
        Attachment.inline("logo.png", cid=cid)


def test_making_one_reads_nothing() -> None:
    attachment = Attachment.from_path("/does/not/exist.pdf")
    assert attachment.source == PathSource(Path("/does/not/exist.pdf"))


def test_text_is_no_content() -> None:
    with pytest.raises(AttachmentError, match="encode text first"):
        Attachment.from_bytes("a.txt", "text")  # type: ignore[arg-type]


def test_bytes_are_no_chunks() -> None:
    with pytest.raises(AttachmentError, match="from_bytes"):
        Attachment.from_chunks("a.txt", b"bytes")  # type: ignore[arg-type]


def test_what_cannot_be_read_is_no_file() -> None:
    with pytest.raises(AttachmentError, match="open in binary mode"):
        Attachment.from_file("a.txt", "a.txt")  # type: ignore[arg-type]


def test_bytes_do_not_change_under_the_attachment() -> None:
    content = bytearray(b"before")
    attachment = Attachment.from_bytes("a", content)
    content[:] = b"after!"
    assert attachment.source == BytesSource(b"before")


def test_a_message_travels_whole() -> None:
    original = EmailMessage()
    original["Subject"] = "Hello"
    original.set_content("Text\n")
    attachment = Attachment.from_message(original)
    assert attachment.content_type == "message/rfc822"
    assert isinstance(attachment.source, BytesSource)
    assert b"Subject: Hello\r\n" in attachment.source.data


def test_an_invitation_is_another_form_of_the_text() -> None:
    invitation = Attachment.calendar("BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n")
    assert invitation.content_type == "text/calendar; method=REQUEST; charset=utf-8"
    assert invitation.disposition is Disposition.ALTERNATIVE


def test_the_lines_of_an_invitation_end_as_calendars_expect_it() -> None:
    def content(invitation: str | bytes) -> bytes:
        source = Attachment.calendar(invitation).source
        assert isinstance(source, BytesSource)
        return source.data

    assert content("BEGIN:VCALENDAR\nEND:VCALENDAR\r\n") == b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n"
    assert content(b"as it is\n") == b"as it is\n"


def test_an_unknown_calendar_method_is_refused() -> None:
    with pytest.raises(AttachmentError, match="expected a calendar method"):
        Attachment.calendar("", method="INVITE")


def test_what_can_be_read_once_says_so_the_second_time() -> None:
    once = ReadOnce(io.BytesIO(b"x"), "a.pdf")
    once.take()
    with pytest.raises(AttachmentError, match=r"'a\.pdf'.*make a new attachment"):
        once.take()


def test_a_result_with_a_length_is_still_read_once() -> None:
    class Counted:
        def __len__(self) -> int:
            return 1

    once = ReadOnce(Counted(), "a.csv")
    once.take()
    with pytest.raises(AttachmentError, match="Counted"):
        once.take()


def test_a_list_can_be_read_again() -> None:
    again = ReadOnce([1, 2], "a.csv")
    assert again.take() == again.take() == [1, 2]
